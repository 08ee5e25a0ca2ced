"""What the loop's callbacks tell: learning rates by player."""

import optax

from jaxseg.experiment.optimisers import Players
from jaxseg.run.callbacks import learning_rates


def test_rates_of_players_that_begin_after_the_warm_up():
    """Three steps of warm-up, in which the segmenter alone moves; step 5 is the others' second."""
    schedules = {
        player: optax.linear_schedule(float(n), 0.0, 10)
        for n, player in ((1, "gen"), (2, "disc"), (3, "translator"))
    }
    players = Players({}, schedules)
    assert learning_rates(players, 3, 3, ["gen"]) == {"lr/gen": float(schedules["gen"](2))}
    told = learning_rates(players, 5, 3, ["translator", "gen", "disc"])
    assert told == {
        "lr/translator": float(schedules["translator"](1)),
        "lr/gen": float(schedules["gen"](4)),
        "lr/disc": float(schedules["disc"](1)),
    }
    assert learning_rates(players, 3, 3, ["gen", "disc"]).keys() == {"lr/gen"}
