"""The app, joined from its parts."""

from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine

from .core.database import lifespan, make_engine, prepare
from .core.problems import add_error_handlers
from .core.settings import Settings
from .routes import orders, products


def create_app(engine: AsyncEngine) -> FastAPI:
    """The shop on an engine that is its own from now on; connects to nothing before it starts."""
    prepare(engine)
    app = FastAPI(title="Shop", lifespan=lifespan)
    app.state.engine = engine
    add_error_handlers(app)
    app.include_router(products.router)
    app.include_router(orders.router)
    return app


def from_settings(settings: Settings | None = None) -> FastAPI:
    """The shop on the database of its settings, which come from the environment by default."""
    settings = settings or Settings.model_validate({})
    return create_app(make_engine(settings.database_url.get_secret_value()))
