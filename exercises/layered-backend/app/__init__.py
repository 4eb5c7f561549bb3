"""The whole shop, as it was handed over: small, in layers, its tests green. Make it hold.

Customers order products and pay; a waiting shipment tells the warehouse what to pack. The quiet
tests in tests/ pass (`cd` into this folder, then `pytest tests`). They never lose the database,
never meet two customers at once and never read the body of an error.

There already, and right: tables, schemas, routes and their status codes. Keep them, and the layers:
routes call services, services call repositories, repositories read and write models. Models may be
named everywhere, and import nothing else of the app. Only services import repositories. Routes and
schemas do not import SQLAlchemy, and of the routes only dependencies.py imports core/database.py.
Services, repositories and models import nothing of FastAPI or Starlette. Core imports no layer.
A name that comes by way of another module counts as imported from where it was made.
pyproject.toml says so for import-linter: try `lint-imports`. The checks look at the imports
themselves, and plant forbidden ones that your contracts must find.

One use case is one transaction in one session. A placed order is an order, its lines, its stock
taken and one shipment: all of it, or nothing and an error. A payment is a row and a paid order:
both, or nothing and an error.

Names that the checks use: `create_app(engine)`, and `from_settings(settings=None)`, which makes the
engine itself: `uvicorn --factory app:from_settings` calls it without arguments, and several workers
serve one database. Settings(database_url=…) is SHOP_DATABASE_URL in the environment. An app may be
stopped and started again, beside others. A small shop runs on a SQLite file, a large one on
PostgreSQL. Every error of the API is one shape, problem documents of RFC 9457 with `type`, `title`
and `status`, and tells nothing that the client did not know: no SQL, no input, no exception. The
framework's errors keep their headers.
"""

from .core.settings import Settings
from .main import create_app, from_settings
from .models import Base, Order, OrderLine, Payment, Product, Shipment

__all__ = [
    "Base",
    "Order",
    "OrderLine",
    "Payment",
    "Product",
    "Settings",
    "Shipment",
    "create_app",
    "from_settings",
]
