"""What differs from shop to shop, read from the environment."""

from typing import Annotated

from pydantic import AnyUrl, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from sqlalchemy import URL, make_url


class Settings(BaseSettings):
    """The settings of one shop."""

    # TODO fail-fast-on-settings: when is a missing secret noticed, and what gets printed?
    model_config = SettingsConfigDict(env_prefix="SHOP_")

    connections: int = Field(default=5, ge=1)
    supplier_url: AnyUrl = AnyUrl("https://supplier.example")

    secret_key: SecretStr = SecretStr("change-me-before-you-go-live")

    origins: Annotated[list[str], NoDecode] = []

    @field_validator("origins", mode="before")
    @classmethod
    def split(cls, value: object) -> object:
        return value.split(",") if isinstance(value, str) else value

    database_url: str

    def url(self) -> URL:
        return make_url(self.database_url)
