"""Products over HTTP."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query

# TODO import-only-the-next-layer: which of these imports reach past the layer below?
from ..core.database import SessionDep
from ..core.errors import NotFoundError
from ..models import Product
from ..repositories.products import ProductRepository
from ..schemas.products import ProductOut
from .dependencies import ProductsDep

router = APIRouter(prefix="/products", tags=["products"])


@router.get("", response_model=list[ProductOut])
async def list_products(
    products: ProductsDep, limit: Annotated[int, Query(ge=1, le=100)] = 20
) -> Sequence[Product]:
    return await products.list_in_stock(limit)


@router.get("/{sku}", response_model=ProductOut)
async def show_product(sku: str, session: SessionDep) -> Product:
    product = await ProductRepository(session).find(sku)
    if product is None:
        raise NotFoundError(f"product {sku}")
    return product
