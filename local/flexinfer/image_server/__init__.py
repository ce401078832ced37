"""OpenAI's image API in front of any diffusers pipeline: the engine of the backend `diffusers`. It imports nothing else of FlexInfer."""
