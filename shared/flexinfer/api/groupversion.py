"""The API group, version and kind of the Model resource. No other module spells the group. Pure."""

GROUP = "ai.flexinfer"
VERSION = "v1alpha2"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "Model"
PLURAL = "models"
