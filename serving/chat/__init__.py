"""The model in a terminal: what is typed is translated, or gone on with, in this process; no server is needed."""
