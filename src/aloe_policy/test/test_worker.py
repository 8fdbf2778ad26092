import threading

from aloe_policy.worker import NewestWins


def test_a_newer_job_replaces_one_that_has_not_begun():
    begun, go_on, last = threading.Event(), threading.Event(), threading.Event()
    ran = []

    def run(job):
        ran.append(job)
        begun.set()
        assert go_on.wait(10)
        if job == "c":
            last.set()

    worker = NewestWins("test", run, crashed=lambda error: None)
    worker.submit("a")
    assert begun.wait(10)
    worker.submit("b")
    worker.submit("c")
    go_on.set()
    assert last.wait(10)
    worker.close()
    assert ran == ["a", "c"]


def test_closing_drops_what_has_not_begun_and_waits_for_what_has():
    begun, go_on = threading.Event(), threading.Event()
    ran = []

    def run(job):
        begun.set()
        assert go_on.wait(10)
        ran.append(job)

    worker = NewestWins("test", run, crashed=lambda error: None)
    worker.submit("a")
    assert begun.wait(10)
    worker.submit("b")
    threading.Timer(0.05, go_on.set).start()
    worker.close()
    assert ran == ["a"]


def test_a_defect_reaches_the_owner():
    crashed = threading.Event()
    errors = []

    def run(job):
        raise ZeroDivisionError(job)

    def on_crash(error):
        errors.append(error)
        crashed.set()

    NewestWins("test", run, crashed=on_crash).submit("x")
    assert crashed.wait(10)
    assert isinstance(errors[0], ZeroDivisionError)


def test_a_running_job_sees_that_it_is_superseded_and_an_idle_job_does_not_wait_in_line():
    begun, last = threading.Event(), threading.Event()
    ran, waited = [], []

    def run(job):
        ran.append(job)
        if job == "a":
            waited.append(worker.superseded or worker.wait(0.01))
            begun.set()
            waited.append(worker.wait(10))
        else:
            last.set()

    worker = NewestWins("test", run, crashed=lambda error: None)
    worker.submit("a")
    assert begun.wait(10)
    worker.submit_if_idle("b")
    worker.submit("c")
    assert last.wait(10)
    worker.close()
    assert (ran, waited) == (["a", "c"], [False, True])
