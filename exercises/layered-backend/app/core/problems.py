"""How errors are answered: problem documents of RFC 9457."""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from uuid import uuid4

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.middleware.base import RequestResponseEndpoint

from .errors import AppError

logger = logging.getLogger(__name__)


def problem(
    status: int,
    title: str | None = None,
    kind: str | None = None,
    headers: Mapping[str, str] | None = None,
    **more: object,
) -> JSONResponse:
    """The answer to an error: its status, a title to read and the kind to branch on."""
    body = {
        "type": f"https://shop.example/problems/{kind}" if kind else "about:blank",
        "title": title or HTTPStatus(status).phrase,
        "status": status,
    }
    return JSONResponse(body | more, status, headers, media_type="application/problem+json")


def add_error_handlers(app: FastAPI) -> None:
    """Answers every error of the app as a problem."""

    @app.exception_handler(AppError)
    async def answer_app_error(request: Request, exc: AppError) -> JSONResponse:
        logger.info("%s: %s", exc.kind, exc)
        return problem(exc.status, exc.title, exc.kind)

    # TODO give-every-error-one-shape: which errors come past these, and what do the bodies tell?
    @app.exception_handler(RequestValidationError)
    async def answer_invalid(request: Request, exc: RequestValidationError) -> JSONResponse:
        errors = exc.errors()
        return problem(422, "The request is not valid", "invalid", errors=errors)

    @app.middleware("http")
    async def hide_unexpected(request: Request, call_next: RequestResponseEndpoint) -> Response:
        try:
            return await call_next(request)
        except Exception as exc:
            request_id = str(uuid4())
            logger.exception("unexpected error in request %s", request_id)
            return problem(500, str(exc), request_id=request_id)
