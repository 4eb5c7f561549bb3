"""What the shop does, for callers with and without HTTP."""

import asyncio
import hashlib
import os
from collections.abc import Callable

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from .models import Customer, Order, Stock

Hasher = Callable[[str], str]


class ShopError(Exception):
    """The shop refuses; the caller decides how to say it."""


class NotFoundError(ShopError):
    """There is no such thing."""


class SoldOutError(ShopError):
    """None of the product is left."""


class TakenError(ShopError):
    """Another customer has this value of `field`."""

    def __init__(self, field: str) -> None:
        super().__init__(field)
        self.field = field

    def __str__(self) -> str:
        return f"{self.field} is taken"


def hash_password(password: str) -> str:
    """A salted scrypt hash: some 50 ms of one core."""
    salt = os.urandom(16)
    return f"{salt.hex()}${hashlib.scrypt(password.encode(), salt=salt, n=2**14, r=8, p=1).hex()}"


class CustomerService:
    def __init__(self, session: AsyncSession, hasher: Hasher = hash_password) -> None:
        self._session = session
        self._hasher = hasher

    async def get(self, customer_id: int) -> Customer:
        """The customer. Raises NotFoundError."""
        customer = await self._session.get(Customer, customer_id)
        if customer is None:
            raise NotFoundError(f"there is no customer {customer_id}")
        return customer

    async def find(self, **values: str) -> Customer | None:
        """The customer with these values, such as `email`; None where there is none."""
        return await self._session.scalar(select(Customer).filter_by(**values))

    async def register(self, email: str, password: str, card: str | None = None) -> Customer:
        """Stores a new customer. Raises TakenError; the caller may go on after it."""
        password_hash = await asyncio.to_thread(self._hasher, password)
        customer = Customer(email=email, card=card, password_hash=password_hash)
        try:
            async with self._session.begin_nested():
                self._session.add(customer)
        except IntegrityError as error:
            raise taken(error) from error
        return customer

    async def change_email(self, customer_id: int, email: str) -> Customer:
        """Gives the customer another e-mail. Raises NotFoundError, and TakenError as above."""
        customer = await self.get(customer_id)
        try:
            async with self._session.begin_nested():
                customer.email = email
        except IntegrityError as error:
            raise taken(error) from error
        return customer


def taken(error: IntegrityError) -> Exception:
    """TakenError for the unique field that was hit; the error itself if it was something else."""
    cause = error.driver_exception
    broken = getattr(cause, "constraint_name", None) or str(cause)
    for field in ("email", "card"):
        if broken in (f"uq_customers_{field}", f"UNIQUE constraint failed: customers.{field}"):
            return TakenError(field)
    return error


class OrderService:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def place(self, customer_id: int, sku: str) -> Order:
        """Takes one piece from the stock and stores the order, with its id. Raises SoldOutError."""
        left = await self._session.scalar(
            update(Stock)
            .where(Stock.sku == sku, Stock.left > 0)
            .values(left=Stock.left - 1)
            .returning(Stock.left)
        )
        if left is None:
            raise SoldOutError(f"{sku} is sold out")
        order = Order(customer_id=customer_id, sku=sku)
        self._session.add(order)
        await self._session.flush()
        return order


class CheckoutService:
    def __init__(self, session: AsyncSession, hasher: Hasher = hash_password) -> None:
        self._session = session
        self._customers = CustomerService(session, hasher)
        self._orders = OrderService(session)

    async def buy(self, email: str, password: str, sku: str) -> Order:
        """A new account and its first order, or neither. Raises TakenError and SoldOutError."""
        async with self._session.begin_nested():
            customer = await self._customers.register(email, password)
            return await self._orders.place(customer.id, sku)
