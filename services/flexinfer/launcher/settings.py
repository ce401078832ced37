"""What of the settings concerns a start."""

import msgspec

from flexinfer.launcher.manifests import LaunchSettings
from flexinfer.runtime.settings import Settings


def settings_of(settings: Settings) -> LaunchSettings:
    """Return what of the settings concerns a start."""
    fields = msgspec.structs.asdict(settings)
    return LaunchSettings(
        proxy_base_url=settings.proxy_base_url.rstrip("/"),
        cluster_domain=settings.cluster_domain,
        drain_seconds=settings.drain_seconds,
        loading_seconds=settings.loading_seconds,
        image=settings.image,
        hf_endpoint=settings.hf_endpoint,
        images={name: value for name, value in fields.items() if name.startswith("image_")},
    )
