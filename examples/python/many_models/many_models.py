# SPDX-License-Identifier: Apache-2.0
"""Many models behind one route: each is loaded when it is first asked for, and goes when others are wanted more.

    manta run --app-dir examples/python/many_models many_models:app
    curl -H 'serve_multiplexed_model_id: wine' --json '[13.2,1.78,2.14,11.2,100,2.65,2.76,0.26,1.28,4.38,1.05,3.4,1050]' \
        http://127.0.0.1:8000/

A model here is a forest that learns one of scikit-learn's data sets; a real one would come from a file.
"""

import asyncio
import math

from manta import serve
from sklearn import datasets
from sklearn.ensemble import RandomForestClassifier
from starlette.requests import Request
from starlette.responses import JSONResponse

DATA_SETS = {
    "breast_cancer": datasets.load_breast_cancer,
    "digits": datasets.load_digits,
    "iris": datasets.load_iris,
    "wine": datasets.load_wine,
}


class Model:
    """A forest and what its answers mean."""

    def __init__(self, name: str):
        data = DATA_SETS[name]()
        self.name = name
        self.inputs = data.data.shape[1]
        self.answers = [str(answer) for answer in data.target_names]
        self.forest = RandomForestClassifier(n_estimators=20, random_state=0).fit(data.data, data.target)

    def predict(self, numbers: list[float]) -> str:
        return self.answers[int(self.forest.predict([numbers])[0])]


@serve.deployment(num_replicas=2)
class ManyModels:
    def __init__(self):
        self.loads = 0

    @serve.multiplexed(max_num_models_per_replica=2)
    async def get_model(self, name: str) -> Model:
        self.loads += 1
        # In a thread: the replica answers others while a model is made.
        return await asyncio.to_thread(Model, name)

    async def __call__(self, request: Request):
        name = serve.get_multiplexed_model_id()
        if name not in DATA_SETS:
            words = f"the header serve_multiplexed_model_id names one of {', '.join(DATA_SETS)}"
            return JSONResponse({"detail": words}, 404 if name else 400)
        model = await self.get_model(name)
        try:
            numbers = await request.json()
        except ValueError:
            numbers = None
        if not isinstance(numbers, list) or len(numbers) != model.inputs or not all(map(is_number, numbers)):
            return JSONResponse({"detail": f"{name} takes a list of {model.inputs} numbers"}, 422)
        answer = {"model": name, "answer": model.predict(numbers), "loads": self.loads}
        return JSONResponse(answer, headers={"x-replica": serve.get_replica_context().replica_tag})


def is_number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


app = ManyModels.bind()
