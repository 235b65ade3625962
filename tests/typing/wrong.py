"""Calls that mypy must refuse, each on the line that says so; see test_typing.py."""

from flask_offload import Offload

offload = Offload()


@offload.task(queue_name="mail")
def send_welcome(user_id: int, *, greeting: str = "hello") -> str:
    return f"{greeting} {user_id}"


@offload.task
def plain() -> None: ...


send_welcome.enqueue("7")  # error: arg-type
send_welcome.enqueue()  # error: call-arg
send_welcome.enqueue(7, greetings="hi")  # error: call-arg
send_welcome.enqueue(7, queue_name="other")  # error: call-arg
send_welcome.delay()  # error: call-arg
send_welcome.using(priority=1).enqueue(None)  # error: arg-type
send_welcome.using(delay=3)  # error: call-arg
send_welcome.call("7")  # error: arg-type
plain.enqueue(1)  # error: call-arg
number: int = send_welcome(7)  # error: assignment
offload.task(queue="mail")(plain.function)  # error: call-overload
