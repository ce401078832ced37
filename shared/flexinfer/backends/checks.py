"""Checks: what FlexInfer relies on of an engine. `tests/engines` runs each on the real program; what did not run is unproven. Pure data."""

from collections.abc import Mapping

CHECKS: Mapping[str, str] = {
    "command_line": "it reads the whole command line that a Model becomes",
    "unknown_flag": "a flag that it does not know ends it at once, with the flag in its last lines",
    "missing_weights": "weights that are not there end it with an error, and the path in its last lines",
    "cut_weights": "weights that were cut in half end it with an error, not with nonsense",
    "wrong_weights": "a file that holds no weights ends it with an error",
    "port_in_use": "an address that is in use ends it with an error",
    "loading": "while it loads, its health path does not answer with success",
    "health": "once it is ready, its health path answers with success",
    "address": "it listens on its own Pod's address alone",
    "served_name": "`/v1/models` has the name under which the proxy asks it",
    "chat": "`/v1/chat/completions` answers, with the number of tokens",
    "completions": "`/v1/completions` answers",
    "stream": "a stream has several events and ends with `[DONE]`",
    "stream_usage": "a stream has the number of tokens if it was asked for",
    "stop_length": "an answer that was cut by `max_tokens` says so",
    "bad_json": "a body that is not JSON is a client error",
    "unknown_path": "a path that it does not have is 404",
    "too_long": "a prompt longer than its context is a client error, or is said to be cut",
    "metrics": "its metrics count no request in flight while it has none",
    "in_flight": "its metrics count a request in flight while it streams",
    "parallel": "it works on as many requests at once as its capacity says",
    "abort": "a client that leaves ends the work on its request",
    "after_abort": "it answers the next request after that",
    "terminate": "SIGTERM ends it within the grace period while it is idle",
    "terminate_stream": "SIGTERM ends it within the grace period while it streams, and the stream does not end as if it were whole",
    "killed_stream": "a stream whose engine is killed does not end as if it were whole",
    "release": "nothing of it is left once it has ended, so that its memory is free",
    "restart": "it starts again on the same address at once",
}
"""Name -> what must hold."""
IMAGE_CHECKS: Mapping[str, str] = {
    "no_gpu": "a GPU that is not there ends it with an error, not with hours on the CPU",
    **{
        name: CHECKS[name]
        for name in (
            "command_line",
            "missing_weights",
            "cut_weights",
            "wrong_weights",
            "port_in_use",
            "loading",
            "health",
            "address",
            "served_name",
            "bad_json",
            "unknown_path",
            "metrics",
            "after_abort",
            "terminate",
            "release",
            "restart",
        )
    },
    "generate": "`/v1/images/generations` answers with an image of the size that was asked for",
    "count": "`n` images are `n` different ones",
    "formats": "an image is in the format that was asked for",
    "seed": "the same seed draws the same image",
    "stream": "a stream has every step, then the image",
    "bad_value": "what the pipeline cannot draw is a client error that names the field",
    "progress": "while it draws, its health path has the step",
    "in_flight": "its metrics count a request in flight while it draws",
    "abort": "a client that leaves ends its image",
    "terminate_stream": "SIGTERM ends it within the grace period while it draws, and the stream does not end as if it were whole",
    "killed_stream": "a stream whose engine is killed has no image",
}
"""The same of an engine that draws images."""
STORE_CHECKS: Mapping[str, str] = {
    **{
        name: CHECKS[name]
        for name in (
            "unknown_flag",
            "port_in_use",
            "health",
            "address",
            "served_name",
            "chat",
            "completions",
            "stream",
            "stream_usage",
            "stop_length",
            "bad_json",
            "unknown_path",
            "too_long",
            "parallel",
            "after_abort",
            "terminate",
            "terminate_stream",
            "killed_stream",
            "release",
            "restart",
        )
    },
    "variables": "it is set up by the variables that a Model becomes: its context has the length of `contextSize`",
    "store": "it lists what FlexInfer has pulled, under the name of the source",
    "no_cloud": "it serves nothing that is not in the store, and asks ollama.com for nothing",
    "missing_weights": "a store without the model lists none, so that the engine is never ready",
    "cut_weights": "weights that were cut in half are an error, not nonsense",
    "wrong_weights": "a layer that holds no weights is an error",
    "first_request": "the first request loads the model and is answered",
    "keeps": "it does not unload the model by itself",
    "killed_runner": "a stream whose runner is killed does not end as if it were whole, and the next request is answered",
}
"""The same of an engine that serves a store and loads the model at the first request. It has no metrics of its requests."""
