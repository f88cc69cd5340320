# SPDX-License-Identifier: Apache-2.0
"""Many models in one replica: tests/objects/models.c, asked over HTTP.

    loading     on demand, once for all who wait; side by side for different models; failures; loads that hang
    holding     the model that was not used for longest goes; one in use never does
    routing     a request goes to the replica that holds its model, and elsewhere when that one is full or dead
    batches     are of one model each
"""

import concurrent.futures
import json
import os
import pathlib
import signal
import subprocess

import pytest
from conftest import wait_until
from gate import Gate

MODELS = "tests/objects/libmodels.so:models"


def ask(running, model, query="", path="/"):
    headers = {"serve_multiplexed_model_id": model} if model else {}
    return running.get(f"{path}?{query}", headers=headers)


def load_of(running, model, query=""):
    """(replica, number of the load) of an answer that must be from this model."""
    answer = ask(running, model, query)
    assert answer.status == 200, answer
    replica, name, number = answer.text.split(" ")
    assert name == model
    return replica, int(number)


def await_two(running):
    """The proxy is connected to both replicas."""
    seen = set()

    def look():
        seen.add(ask(running, "", "who").text)
        return len(seen) == 2

    wait_until(look, "both replicas answer")


@pytest.fixture
def gate(tmp_path):
    with Gate("/tmp") as gate:
        yield gate


@pytest.fixture
def crew():
    with concurrent.futures.ThreadPoolExecutor(16) as crew:
        yield crew


# ---- loading and holding


@pytest.mark.quick
def test_a_model_is_loaded_once_and_the_oldest_makes_room(manta_run):
    with manta_run(MODELS) as models:  # max_models=2
        assert [load_of(models, name)[1] for name in "abab"] == [1, 2, 1, 2]
        assert load_of(models, "c")[1] == 3  # a was used before b
        assert load_of(models, "b")[1] == 2
        assert load_of(models, "a")[1] == 4  # and now c went
        assert load_of(models, "b")[1] == 2
        assert models.end() == 0
        assert models.leftovers() == []
        for name, count in {"a": 2, "b": 1, "c": 1}.items():
            unloaded = [line for line in models.stderr if f"unloaded model '{name}'" in line]
            assert len(unloaded) == count  # what was left at the end, too


def test_there_may_be_no_limit(manta_run):
    with manta_run(MODELS, "max_models=-1") as models:
        assert [load_of(models, f"m{i}")[1] for i in range(40)] == list(range(1, 41))
        assert [load_of(models, f"m{i}")[1] for i in range(40)] == list(range(1, 41))


def test_the_header_is_found_in_any_case(manta_run):
    with manta_run(MODELS) as models:
        answer = models.get("/", headers={"Serve_Multiplexed_Model_ID": "Iris v2"})
        assert answer.text.split(" ", 1)[1] == "Iris v2 1"


def test_a_handle_names_the_model(manta_run):
    with manta_run("tests/objects/libmodels.so:caller") as caller:
        assert caller.get("/first").text.split(" ")[1:] == ["first", "1"]
        assert caller.get("/second").text.split(" ")[1:] == ["second", "2"]
        assert caller.get("/first").text.split(" ")[1:] == ["first", "1"]


def test_what_goes_wrong_is_said(manta_run):
    with manta_run(MODELS) as models:
        for model, status, words in [
            ("", 400, "names no model: set the header serve_multiplexed_model_id"),
            ("bad", 500, "model 'bad' could not be loaded: no file of that name"),
            ("x" * 201, 400, "a model id of 201 bytes; at most 200 are allowed"),
        ]:
            assert ask(models, model).status == status
            models.await_line(words)
        assert load_of(models, "x" * 200)[1] == 1
        assert ask(models, "bad").status == 500  # tried again
        assert len([line for line in models.stderr if "'bad' could not be loaded" in line]) >= 2
    with manta_run("tests/objects/libmodels.so:none") as none:
        assert ask(none, "a").status == 500
        none.await_line("deployment 'none' has no load_model")


def test_those_who_ask_at_once_share_one_load(manta_run, gate, crew):
    with manta_run(MODELS) as models:
        name = f"gate:{gate.path}"
        asked = [crew.submit(load_of, models, name) for _ in range(6)]
        loading = gate.next()
        assert gate.stays_empty()
        loading.tell("a")
        assert {each.result()[1] for each in asked} == {1}


def test_those_who_ask_at_once_share_one_failure(manta_run, gate, crew):
    with manta_run(MODELS) as models:
        name = f"gate:{gate.path}"
        asked = [crew.submit(ask, models, name) for _ in range(4)]
        loading = gate.next()
        assert gate.stays_empty()
        loading.tell("n")
        assert {each.result().status for each in asked} == {500}
        again = crew.submit(load_of, models, name)
        gate.next().tell("a")
        assert again.result()[1] == 1


def test_different_models_are_loaded_side_by_side(manta_run, gate, crew):
    with manta_run(MODELS) as models:
        asked = [crew.submit(load_of, models, f"gate:{gate.path}#{i}") for i in range(2)]
        for loading in [gate.next(), gate.next()]:
            loading.tell("a")
        assert {each.result()[1] for each in asked} == {1, 2}


def test_a_model_in_use_is_not_unloaded(manta_run, gate, crew):
    with manta_run(MODELS, "max_models=1") as models:
        first = crew.submit(load_of, models, "a", gate.query)
        inside = gate.next()
        second = crew.submit(load_of, models, "b", gate.query)
        assert gate.stays_empty()  # b waits for room
        assert load_of(models, "a")[1] == 1  # while a goes on serving
        inside.tell("a")
        assert first.result()[1] == 1  # what it held was never overwritten
        gate.next().tell("a")
        assert second.result()[1] == 2


def test_a_model_is_held_until_a_late_answer(manta_run, gate, crew):
    with manta_run(MODELS, "max_models=1", "threads=1") as models:
        first = crew.submit(load_of, models, "a", "late&" + gate.query)
        inside = gate.next()
        second = crew.submit(load_of, models, "b")
        assert gate.stays_empty() and not second.done()
        inside.tell("a")
        assert (first.result()[1], second.result()[1]) == (1, 2)


def test_a_request_may_use_two_models_but_not_more_than_there_may_be(manta_run):
    with manta_run(MODELS) as models:
        assert load_of(models, "a", "more=b")[1] == 1
        assert load_of(models, "b")[1] == 2
    with manta_run(MODELS, "max_models=1") as models:
        assert ask(models, "a", "more=b").status == 503
        models.await_line("the request holds 1 models already, which is max_models")
        assert load_of(models, "b")[1] == 2


# ---- loads that hang


def test_a_load_that_hangs_keeps_nobody_past_the_deadline(manta_run, gate, crew):
    with manta_run(MODELS, options=["--request-timeout-s", "1"]) as models:
        name = f"gate:{gate.path}"
        asked = [crew.submit(ask, models, name) for _ in range(3)]
        loading = gate.next()
        assert {each.result().status for each in asked} == {408}
        assert load_of(models, "a")[1] == 1  # the others are served
        assert ask(models, name).status == 408
        loading.tell("a")
        wait_until(lambda: ask(models, name).status == 200, "the model is there at last")


def test_waiting_for_room_ends_with_the_deadline(manta_run, gate, crew):
    with manta_run(MODELS, "max_models=1", options=["--request-timeout-s", "1"]) as models:
        first = crew.submit(ask, models, "a", "late&" + gate.query)
        inside = gate.next()
        assert ask(models, "b").status == 408
        inside.tell("a")
        assert first.result().status == 408
        wait_until(lambda: ask(models, "b").status == 200, "there is room")


def test_a_replica_whose_load_hangs_is_replaced(manta_run, gate, crew):
    with manta_run(MODELS, "model_load_timeout_s=0.3", "graceful_shutdown_timeout_s=0.2") as models:
        before = load_of(models, "a")[0]
        hanging = crew.submit(ask, models, f"gate:{gate.path}")
        gate.next()
        models.await_line("has not returned after")
        wait_until(lambda: load_of(models, "a")[0] != before, "another replica serves")
        assert hanging.result().status == 500


# ---- routing


def test_a_model_stays_where_it_is(manta_run):
    with manta_run(MODELS, "num_replicas=2", "max_models=3") as models:
        await_two(models)
        homes = {name: load_of(models, name)[0] for name in "abcdef"}
        assert sorted(list(homes.values()).count(replica) for replica in set(homes.values())) == [3, 3]
        for _ in range(10):
            for name, home in homes.items():
                assert load_of(models, name)[0] == home
        assert len([line for line in models.stderr if "loaded model" in line]) == 6


def test_when_the_holder_is_full_another_loads_it(manta_run, gate, crew):
    with manta_run(MODELS, "num_replicas=2", "max_ongoing_requests=1") as models:
        await_two(models)
        home = load_of(models, "a")[0]
        first = crew.submit(load_of, models, "a", gate.query)
        inside = gate.next()
        assert inside.replica == home
        assert load_of(models, "a")[0] != home
        inside.tell("a")
        assert first.result()[0] == home


def test_a_request_waits_for_its_model_and_then_takes_any_replica(manta_run, gate, crew):
    environment = {"MANTA_MODEL_MATCHING_TIMEOUT_MS": "300"}
    with manta_run(MODELS, "num_replicas=2", "max_ongoing_requests=1", environment=environment) as models:
        await_two(models)
        home = load_of(models, "a")[0]
        other = next(name for name in "bcdefgh" if load_of(models, name)[0] != home)
        assert load_of(models, other, "more=z")[0] != home  # which holds two now
        first = crew.submit(load_of, models, "a", gate.query)
        inside = gate.next()
        assert load_of(models, "a")[0] != home  # after its time
        inside.tell("a")
        assert first.result()[0] == home


def test_a_dead_replica_holds_nothing(manta_run):
    with manta_run(MODELS, "num_replicas=2") as models:
        await_two(models)
        home = load_of(models, "a")[0]
        victims = [pid for pid in models.processes("manta-replica") if f"--replica\0{home}\0" in command_line(pid)]
        os.kill(victims[0], signal.SIGKILL)
        wait_until(lambda: ask(models, "a").status == 200, "another replica serves it")
        again = load_of(models, "a")[0]
        assert again != home
        assert {load_of(models, "a")[0] for _ in range(10)} == {again}


def command_line(pid):
    with open(f"/proc/{pid}/cmdline", encoding="utf-8") as file:
        return file.read()


# ---- batches


def test_a_batch_has_one_model(manta_run, crew):
    with manta_run("tests/objects/libmodels.so:batches") as batches:

        def visit(number):
            name = f"m{number % 3}"  # more than there may be at once
            answer = ask(batches, name)
            assert answer.status == 200, answer
            model, size, different = answer.text.split(" ")
            assert (model, different) == (name, "1")
            return int(size)

        sizes = list(crew.map(visit, range(300)))
        assert max(sizes) > 1 and max(sizes) <= 8


# ---- the example

PAIRS = ["3-8", "1-7", "4-9", "5-6", "0-8", "2-7"]


@pytest.fixture(scope="module")
def pairs_folder(manta_build, tmp_path_factory):
    trainer = manta_build / "examples/train_pairs"
    if not trainer.exists():
        pytest.skip("this build has no XGBoost")
    folder = tmp_path_factory.mktemp("pairs")
    digits = pathlib.Path(__file__).resolve().parent.parent.parent / "examples/xgboost/digits.csv"
    subprocess.run([trainer, digits, folder, *PAIRS], check=True, timeout=60)
    return folder


def images_of(folder, pair):
    lines = (folder / f"{pair}.csv").read_text().splitlines()
    numbers = [[int(number) for number in line.split(",")] for line in lines]
    return [(row[:-1], row[-1]) for row in numbers]


def ask_pair(running, pair, rows):
    headers = {"serve_multiplexed_model_id": pair, "content-type": "application/json"}
    return running.request("POST", "/", json.dumps({"rows": rows}), headers)


def test_each_pair_of_digits_has_its_own_model(manta_run, pairs_folder, crew):
    with manta_run("examples/libpairs.so:pairs", f"folder={pairs_folder}", "replicas=2", "models=3") as pairs:
        homes = {}

        def look():
            """Each has a home, three in each; a replica that the proxy reached late gets its share in the next round."""
            for pair in PAIRS:
                images = images_of(pairs_folder, pair)[:64]
                answer = ask_pair(pairs, pair, [pixels for pixels, _ in images])
                assert answer.status == 200, answer
                found = answer.json()["predictions"]
                assert sum(one == digit for one, (_, digit) in zip(found, images)) >= 0.93 * len(images)
                homes[pair] = answer.headers["x-replica"]
            return sorted(homes.values()) == ["1"] * 3 + ["2"] * 3

        wait_until(look, "three models on each replica")

        def visit(number):
            pair = PAIRS[number % len(PAIRS)]
            answer = ask_pair(pairs, pair, [images_of(pairs_folder, pair)[0][0]])
            return answer.status == 200 and answer.headers["x-replica"] == homes[pair]

        assert all(crew.map(visit, range(120)))
        assert ask_pair(pairs, "3-3", [[0] * 64]).status == 400
        assert ask_pair(pairs, "../3-8", [[0] * 64]).status == 400
        assert ask_pair(pairs, "8-3", [[0] * 64]).status == 404  # nobody trained it
        assert ask_pair(pairs, "3-8", [[0] * 63]).status == 400
        assert pairs.end() == 0
        assert pairs.leftovers() == []


def test_more_pairs_than_places_take_turns(manta_run, pairs_folder, crew):
    with manta_run("examples/libpairs.so:pairs", f"folder={pairs_folder}", "models=2") as pairs:
        first = {pair: images_of(pairs_folder, pair)[0] for pair in PAIRS}
        expected = {pair: ask_pair(pairs, pair, [first[pair][0]]).json() for pair in PAIRS}

        def visit(number):
            pair = PAIRS[number % len(PAIRS)]
            return ask_pair(pairs, pair, [first[pair][0]]).json() == expected[pair]

        assert all(crew.map(visit, range(300)))


# ---- objects of before


@pytest.mark.quick
def test_an_object_built_against_the_first_header_is_served(manta_run):
    with manta_run("tests/objects/libolder_header.so:older") as older:
        assert older.get("/").text == "as ever"
