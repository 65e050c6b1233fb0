"""Files and pipes through the engine, in this process: no server is needed."""
