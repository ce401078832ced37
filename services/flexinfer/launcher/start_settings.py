"""What of the settings concerns a start."""

from flexinfer.launcher.manifests import LaunchSettings
from flexinfer.runtime.settings import Settings, hub_of, pod_defaults_of


def settings_of(settings: Settings) -> LaunchSettings:
    """Return what of the settings concerns a start."""
    return LaunchSettings(
        proxy_base_url=settings.proxy_base_url.rstrip("/"),
        cluster_domain=settings.cluster_domain,
        drain_seconds=settings.drain_seconds,
        loading_seconds=settings.loading_seconds,
        image=settings.image,
        hub=hub_of(settings),
        pods=pod_defaults_of(settings),
        images=settings.images,
    )
