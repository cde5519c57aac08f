"""`python -m services.cache`: serves cached answers over gRPC."""

from services.cache.app import app
from services.cache.settings import CacheSettings
from services.common import lifecycle, settings

if __name__ == "__main__":
    loaded = settings.load(CacheSettings)
    lifecycle.run("cache", loaded, lambda: app(loaded))
