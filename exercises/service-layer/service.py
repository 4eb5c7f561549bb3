"""What the shop does, for callers with and without HTTP."""

import asyncio
import hashlib
import os
from collections.abc import Callable

# TODO stay-free-of-the-framework: can a worker load this where FastAPI is not installed?
from fastapi import HTTPException
from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from .models import Customer, Order, Stock

Hasher = Callable[[str], str]


class ShopError(HTTPException):
    """The shop refuses; the caller decides how to say it."""

    def __init__(self, message: str) -> None:
        super().__init__(status_code=400, detail=message)

    def __str__(self) -> str:
        return self.detail


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
        # TODO raise-domain-errors: what does a caller without HTTP catch here?
        if customer is None:
            raise HTTPException(404, f"there is no customer {customer_id}")
        return customer

    async def find(self, **values: str) -> Customer | None:
        """The customer with these values, such as `email`; None where there is none."""
        return await self._session.scalar(select(Customer).filter_by(**values))

    async def register(self, email: str, password: str, card: str | None = None) -> Customer:
        """Stores a new customer. Raises TakenError; the caller may go on after it."""
        # TODO keep-slow-work-off-the-loop: who else waits while this password is hashed?
        password_hash = self._hasher(password)
        customer = Customer(email=email, card=card, password_hash=password_hash)
        # TODO let-the-database-decide-uniqueness: and if it is taken between SELECT and INSERT?
        if await self.find(email=email):
            raise TakenError("email")
        if card and await self.find(card=card):
            raise TakenError("card")
        self._session.add(customer)
        await self._session.flush()
        return customer

    async def change_email(self, customer_id: int, email: str) -> Customer:
        """Gives the customer another e-mail. Raises NotFoundError, and TakenError as above."""
        customer = await self.get(customer_id)
        customer.email = email
        await self._session.flush()
        return customer


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
        # TODO join-the-callers-transaction: can the caller still undo this?
        self._session.add(order)
        await self._session.commit()
        return order


class CheckoutService:
    def __init__(self, session: AsyncSession, hasher: Hasher = hash_password) -> None:
        self._session = session
        self._customers = CustomerService(session, hasher)
        self._orders = OrderService(session)

    async def buy(self, email: str, password: str, sku: str) -> Order:
        """A new account and its first order, or neither. Raises TakenError and SoldOutError."""
        # TODO compose-services-in-one-transaction: what is left if the order is refused?
        customer = await self._customers.register(email, password)
        await self._session.commit()
        return await self._orders.place(customer.id, sku)
