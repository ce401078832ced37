"""The prefetcher: makes sure that the weights are there before anybody asks. It owns `Cached` and `cache`."""
