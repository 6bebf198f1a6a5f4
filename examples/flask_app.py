"""An app of Flask behind its limits.

gunicorn --chdir examples flask_app:app                                     (each worker by itself)
REDIS_URL=redis://localhost:6379/0 gunicorn --chdir examples flask_app:app  (shared by all workers)
"""

from __future__ import annotations

import os

from flask import Blueprint, Flask
from flask.typing import ResponseReturnValue
from flask.views import MethodView

from headgate.web.flask import RateLimitExceeded, RateLimits

app = Flask(__name__)
limits = RateLimits("100/minute", store=os.environ.get("REDIS_URL", "memory://"), name="flask-example", app=app)


@app.get("/")
def index() -> dict[str, str]:
    return {"hello": "world"}


@app.post("/login")
@limits.limit("2/minute", key="ip")
def login() -> dict[str, str]:
    return {"token": "..."}


@app.get("/health")
@limits.exempt
def health() -> str:
    return "fine"


reports = Blueprint("reports", __name__, url_prefix="/reports")
limits.limit_blueprint(reports, "10/minute", name="reports", cost=5)


class Report(MethodView):
    def get(self, number: int) -> str:
        return f"report {number}, {limits.decision.remaining if limits.decision else 'any number of'} left"

    @limits.limit("1/hour")
    def delete(self, number: int) -> str:
        return f"report {number} is gone"


reports.add_url_rule("/<int:number>", view_func=Report.as_view("report"))
app.register_blueprint(reports)


@app.errorhandler(RateLimitExceeded)
def slow_down(error: RateLimitExceeded) -> ResponseReturnValue:
    return {"error": "slow down", "again_in": error.decision.retry_after if error.decision else None}, 429
