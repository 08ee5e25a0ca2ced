"""The rooms of jaxseg/ by rank."""

RANKS = (
    {"errors", "routes"},
    {"resize"},
    {"data", "losses", "models"},
    {"engine"},
    {"evaluation", "methods"},
    {"storage"},
    {"experiment"},
    {"report"},
    {"run"},
    {"web"},
    {"cli"},
)


RANK = {room: rank for rank, rooms in enumerate(RANKS) for room in rooms}
