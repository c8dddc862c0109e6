"""The dashboards. Every metric is one of telemetry/catalogue.py or a rule of deploy/prometheus; a test says so."""

from deploy.grafana.boards.broker import BROKER
from deploy.grafana.boards.cost import COST
from deploy.grafana.boards.overview import OVERVIEW
from deploy.grafana.boards.precision import PRECISION
from deploy.grafana.boards.tenants import TENANTS
from deploy.grafana.boards.workers import WORKERS

BOARDS = (OVERVIEW, TENANTS, PRECISION, COST, BROKER, WORKERS)
