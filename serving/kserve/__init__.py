"""What is taken from KServe's SDK and from uvicorn, and what is changed in them: nothing else knows their insides."""
