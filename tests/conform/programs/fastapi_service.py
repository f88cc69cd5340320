# SPDX-License-Identifier: Apache-2.0
"""A small shop: FastAPI with models, dependencies, a lifespan, a router and a middleware."""

from contextlib import asynccontextmanager
from typing import Annotated, Optional

import ray
from client import PORT, ask, get, post
from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Query, Request
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import BaseModel, Field
from ray import serve


class Item(BaseModel):
    name: str = Field(min_length=1)
    price: float = Field(gt=0)
    tags: list[str] = []


class Stored(Item):
    id: int


class OutOfStock(Exception):
    def __init__(self, item_id):
        self.item_id = item_id


@asynccontextmanager
async def lifespan(app):
    app.state.currency = "EUR"
    yield
    app.state.currency = None


api = FastAPI(title="Shop", lifespan=lifespan)
admin = APIRouter(prefix="/admin", tags=["admin"])


async def user(x_token: Annotated[Optional[str], Header()] = None):
    if x_token is None:
        raise HTTPException(401, "who are you?", {"www-authenticate": "token"})
    return x_token.upper()


def page(skip: int = 0, limit: Annotated[int, Query(le=10)] = 2):
    return skip, limit


@api.middleware("http")
async def add_header(request: Request, call_next):
    response = await call_next(request)
    response.headers["x-shop"] = request.url.path
    return response


@api.exception_handler(OutOfStock)
async def out_of_stock(request, error):
    return JSONResponse({"sold out": error.item_id}, 410)


@admin.get("/who")
async def who(name: Annotated[str, Depends(user)]):
    return {"user": name}


@serve.deployment
@serve.ingress(api)
class Shop:
    def __init__(self, first_id):
        self.items = {}
        self.next_id = first_id

    @api.post("/items", status_code=201)
    async def add(self, item: Item) -> Stored:
        stored = Stored(id=self.next_id, **item.model_dump())
        self.items[stored.id] = stored
        self.next_id += 1
        return stored

    @api.get("/items/{item_id}", response_model=Stored, response_model_exclude={"tags"})
    def one(self, item_id: int):
        if item_id not in self.items:
            raise HTTPException(404, f"no item {item_id}")
        return self.items[item_id]

    @api.get("/items")
    async def many(self, where: Annotated[tuple, Depends(page)], tag: Optional[str] = None):
        found = [i for i in self.items.values() if tag is None or tag in i.tags]
        return [i.name for i in found[where[0] : where[0] + where[1]]]

    @api.delete("/items/{item_id}", status_code=204)
    async def remove(self, item_id: int, name: Annotated[str, Depends(user)]):
        del self.items[item_id]

    @api.get("/buy/{item_id}")
    async def buy(self, item_id: int):
        raise OutOfStock(item_id)

    @api.get("/currency", response_class=PlainTextResponse)
    async def currency(self, request: Request):
        return request.app.state.currency

    @api.get("/crash")
    async def crash(self):
        raise RuntimeError("never told to clients")


api.include_router(admin)
app = Shop.bind(first_id=100)

if __name__ == "__main__":
    ray.init(num_cpus=16)
    serve.start(http_options={"port": PORT})
    serve.run(app, route_prefix="/shop")
    print(post("/shop/items", {"name": "tea", "price": 2.5, "tags": ["hot"]}).json())
    print(post("/shop/items", {"name": "ice", "price": 3}).status)
    print(post("/shop/items", {"name": "jam", "price": 1}).json()["id"])
    wrong = post("/shop/items", {"name": "", "price": -1})
    print(wrong.status, sorted(".".join(map(str, e["loc"])) for e in wrong.json()["detail"]))
    print(get("/shop/items/100").json())
    missing = get("/shop/items/7")
    print(missing.status, missing.json(), missing.headers["x-shop"])
    print(get("/shop/items").json(), get("/shop/items?skip=1&limit=9").json())
    print(get("/shop/items?tag=hot").json(), get("/shop/items?limit=99").status)
    denied = ask("DELETE", "/shop/items/100")
    print(denied.status, denied.json(), denied.headers["www-authenticate"])
    gone = ask("DELETE", "/shop/items/100", headers={"x-token": "me"})
    print(gone.status, gone.body, get("/shop/items/100").status)
    print(get("/shop/buy/5").status, get("/shop/buy/5").json())
    print(get("/shop/currency").text, get("/shop/currency").type)
    crash = get("/shop/crash")
    print(crash.status, crash.text)
    print(get("/shop/nothing").status, get("/shop/nothing").json())
    print(ask("PUT", "/shop/items").status, get("/elsewhere").status)
    print(sorted(get("/shop/openapi.json").json()["paths"]))
    print("<title>Shop - Swagger UI</title>" in get("/shop/docs").text)
    print(get("/shop/admin/who", {"x-token": "root"}).status)
    serve.shutdown()
