"""Everything that makes a model; it knows neither KFP nor KServe."""

from model import environment as environment  # before any library is loaded
from model.processors import settle_threads

settle_threads()  # before anything is imported that counts processors or starts threads
