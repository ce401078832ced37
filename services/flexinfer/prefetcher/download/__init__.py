"""The program of a download: a Hugging Face repository, completely or not at all, in a Job or an init container."""
