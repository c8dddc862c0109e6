"""Engines: what turns a job into tokens. Each is a module or package here that meets `workers.engine.Engine`."""
