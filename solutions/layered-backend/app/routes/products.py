"""Products over HTTP."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query

from ..models import Product
from ..schemas.products import ProductOut
from .dependencies import ProductsDep

router = APIRouter(prefix="/products", tags=["products"])


@router.get("", response_model=list[ProductOut])
async def list_products(
    products: ProductsDep, limit: Annotated[int, Query(ge=1, le=100)] = 20
) -> Sequence[Product]:
    return await products.list_in_stock(limit)


@router.get("/{sku}", response_model=ProductOut)
async def show_product(sku: str, products: ProductsDep) -> Product:
    return await products.find(sku)
