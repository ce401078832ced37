"""The API group and version of FlexInfer, and the kinds of its resources. No other module spells the group. Pure."""

GROUP = "ai.flexinfer"
VERSION = "v1alpha2"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "Model"
PLURAL = "models"
GROUP_KIND = "SharedGroup"
GROUP_PLURAL = "sharedgroups"
