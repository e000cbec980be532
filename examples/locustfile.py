"""A load test of your own, for Locust: traders that enter orders around 100, look at the book, and cancel what rests."""

import itertools
import random

from locust import FastHttpUser, between, task

NAMES = itertools.count(1)


class Trader(FastHttpUser):
    """One trader, with up to twenty open orders."""

    wait_time = between(0.01, 0.1)

    def on_start(self) -> None:
        """Take a name of its own."""
        self.user_id = f"trader-{next(NAMES)}"
        self.open: list[str] = []

    @task(8)
    def enter(self) -> None:
        """Enter a limit order on either side."""
        order = {
            "user_id": self.user_id,
            "symbol": random.choice(["LOAD1", "LOAD2"]),
            "side": random.choice(["BUY", "SELL"]),
            "quantity": str(random.randint(1, 100)),
            "price": f"{random.gauss(100, 0.1):.2f}",
        }
        answer = self.client.post("/orders", json=order)
        if answer.status_code == 201 and answer.json()["status"] in {"PENDING", "PARTIALLY_FILLED"}:
            self.open.append(answer.json()["order_id"])

    @task(4)
    def cancel(self) -> None:
        """Cancel the oldest order; that it was filled before is no failure of the service."""
        if self.open:
            path = f"/orders/{self.open.pop(0)}"
            with self.client.delete(path, name="/orders/{order_id}", catch_response=True) as answer:
                if answer.status_code in {200, 409}:
                    answer.success()

    @task(2)
    def look(self) -> None:
        """Look at every market."""
        self.client.get("/market")
