"""What the shop refuses. The text of an error is a note for the log; its title is for clients."""


class AppError(Exception):
    status, kind, title = 400, "refused", "The shop cannot do that"


class NotFoundError(AppError):
    status, kind, title = 404, "not-found", "There is no such thing"


class OutOfStockError(AppError):
    status, kind, title = 409, "out-of-stock", "The product is sold out"


class AlreadyPaidError(AppError):
    status, kind, title = 409, "already-paid", "The order is paid already"
