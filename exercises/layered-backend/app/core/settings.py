"""What differs from shop to shop, read from the environment."""

from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """The settings of one shop."""

    model_config = SettingsConfigDict(env_prefix="SHOP_", hide_input_in_errors=True)

    database_url: SecretStr
