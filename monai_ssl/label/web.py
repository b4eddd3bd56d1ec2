"""MONAI Label's web application as we serve it: guarded, and with mistakes answered in one line instead of a 500."""

from __future__ import annotations

from fastapi import Request
from fastapi.responses import JSONResponse
from monailabel.app import app
from monailabel.interfaces.exception import ImageNotFoundException, LabelNotFoundException, MONAILabelException

from monai_ssl.label.app import is_training
from monai_ssl.label.request_guard import RequestGuard
from monai_ssl.utils.errors import UserError

__all__ = ["app"]

_UNKNOWN = ("not Initialized", "not found", "Not found")


async def _user_error(_: Request, error: Exception) -> JSONResponse:
    message = str(error)
    return JSONResponse({"detail": message}, 404 if "there is no study" in message else 400)


async def _server_error(_: Request, error: Exception) -> JSONResponse:
    message = str(getattr(error, "msg", error))
    unknown = isinstance(error, (ImageNotFoundException, LabelNotFoundException)) or any(
        word in message for word in _UNKNOWN
    )
    return JSONResponse({"detail": message}, 404 if unknown else 500)


app.add_exception_handler(UserError, _user_error)
app.add_exception_handler(MONAILabelException, _server_error)
app.add_middleware(RequestGuard, is_training=is_training)
