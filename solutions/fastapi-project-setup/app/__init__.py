"""The order desk as a project of its own: settings, database, supplier, and the tools around it.

Two shops, north and south, run this one program, each with its own settings, on the same kind of
machine. Their stock is in a database, the prices are asked from a supplier over HTTP.

There already: the routes. GET /stock/{sku} answers what is left, GET /prices/{sku} the cents.
`uvicorn --factory app:create_app` starts a shop: it calls create_app() without arguments, and the
settings then come from the environment.

Names that the checks use: create_app(settings=None, *, transport=None), where `transport` carries
the supplier's HTTP calls; create_engine(settings); Settings(secret_key=…, database_url=…,
connections=…, origins=…). In the environment these are SHOP_SECRET_KEY (32 characters at least) and
SHOP_DATABASE_URL (a password is in it), which every shop must set; SHOP_CONNECTIONS (how many
connections this process may hold at once, in any database but one in memory); SHOP_ORIGINS (the web
shops that a browser may call from, with commas between them, answered by the CORS headers). A shop
starts only if its settings are good and its database answers. It closes all, however it ends.

pyproject.toml configures ruff and mypy. The checks run ruff over your files, and then both tools
over modules of their own in the place of each file in `app`.
"""

from .database import Base, Product, create_engine
from .main import create_app
from .settings import Settings

__all__ = ["Base", "Product", "Settings", "create_app", "create_engine"]
