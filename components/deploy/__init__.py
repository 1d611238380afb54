"""Deploy: a live endpoint that answered real requests before it became champion."""
