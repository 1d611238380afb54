"""The error that a client receives when its request cannot be answered."""


class RequestError(Exception):
    """A request that is refused with this HTTP status and this message.

    Attributes:
        status: 4xx for what the client did, 503 where the predictor is overloaded or going.
        close: the connection must end (the body was not read).
    """

    def __init__(self, message: str, status: int = 400, *, close: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.close = close
