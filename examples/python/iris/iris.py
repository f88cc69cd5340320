# SPDX-License-Identifier: Apache-2.0
"""A scikit-learn model behind FastAPI: validated input, described output, a page to try it on.

    manta run --app-dir examples/python/iris iris:app
    curl --json '{"sepal_length":5.1,"sepal_width":3.5,"petal_length":1.4,"petal_width":0.2}' \
        http://127.0.0.1:8000/classify                        # {"species":"setosa","probability":...}
    open http://127.0.0.1:8000/docs

The model trains itself when its replica starts, which takes less than a second.
"""

from fastapi_offline import FastAPIOffline
from manta import serve
from pydantic import BaseModel, ConfigDict, Field
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

# FastAPI, but the page of /docs brings its own scripts along instead of asking another server for them.
api = FastAPIOffline(title="Iris", description="Which of three species is this flower?")


class Flower(BaseModel):
    """Four lengths in centimetres."""

    model_config = ConfigDict(extra="forbid")

    sepal_length: float = Field(gt=0, le=30, examples=[5.1])
    sepal_width: float = Field(gt=0, le=30, examples=[3.5])
    petal_length: float = Field(gt=0, le=30, examples=[1.4])
    petal_width: float = Field(gt=0, le=30, examples=[0.2])


class Species(BaseModel):
    species: str
    probability: float


class Model(BaseModel):
    accuracy: float = Field(description="of flowers that the model did not learn from")
    species: list[str]


@serve.deployment
class Classifier:
    """The model, apart from HTTP: more replicas of it are a matter of one option."""

    def __init__(self, test_share: float = 0.25):
        flowers = load_iris()
        learn_x, test_x, learn_y, test_y = train_test_split(
            flowers.data, flowers.target, test_size=test_share, random_state=0, stratify=flowers.target
        )
        self.species = [str(name) for name in flowers.target_names]
        self.model = make_pipeline(StandardScaler(), LogisticRegression()).fit(learn_x, learn_y)
        self.accuracy = float(self.model.score(test_x, test_y))

    def classify(self, lengths: list[float]) -> tuple[str, float]:
        [probabilities] = self.model.predict_proba([lengths])
        best = int(probabilities.argmax())
        return self.species[best], float(probabilities[best])

    def describe(self) -> tuple[float, list[str]]:
        return self.accuracy, self.species


@serve.deployment
@serve.ingress(api)
class Iris:
    def __init__(self, classifier):
        self.classifier = classifier

    @api.post("/classify")
    async def classify(self, flower: Flower) -> Species:
        lengths = [flower.sepal_length, flower.sepal_width, flower.petal_length, flower.petal_width]
        species, probability = await self.classifier.classify.remote(lengths)
        return Species(species=species, probability=probability)

    @api.get("/model")
    async def model(self) -> Model:
        accuracy, species = await self.classifier.describe.remote()
        return Model(accuracy=accuracy, species=species)


app = Iris.bind(Classifier.bind())
