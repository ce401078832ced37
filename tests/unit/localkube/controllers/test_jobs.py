"""Jobs: as many Pods as it takes, and no more than it may."""

from typing import Any

from localkube.apiserver.resources import Object
from localkube.controllers.jobs import JOB_NAME, JobController
from tests.unit.localkube.controllers.harness import Harness


def a_job(**spec: Any) -> Harness:
    """Return a harness with a Job named `check`, looked at once."""
    harness = Harness(JobController)
    template = {
        "metadata": {"labels": {"a": "b"}},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]},
    }
    harness.make("jobs", {"metadata": {"name": "check"}, "spec": {"template": template, **spec}})
    harness.settle()
    return harness


def end(harness: Harness, pod: Object, phase: str) -> None:
    """End a Pod now, and let the controller see it."""
    ended = {
        "exitCode": 0 if phase == "Succeeded" else 1,
        "finishedAt": harness.now.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    harness.status(
        "pods",
        pod["metadata"]["name"],
        phase=phase,
        containerStatuses=[{"name": "c", "state": {"terminated": ended}}],
    )
    harness.settle()


def conditions(harness: Harness) -> dict[str, str]:
    """Return the Job's conditions: type -> reason."""
    return {c["type"]: c["reason"] for c in harness.get("jobs", "check")["status"].get("conditions", ())}


def living(harness: Harness) -> list[Object]:
    """Return the Pods that have not ended."""
    return [pod for pod in harness.all("pods") if pod["status"]["phase"] not in ("Succeeded", "Failed")]


def test_a_pod_is_made_from_the_template_and_owned() -> None:
    """Labels, owner, name, status."""
    harness = a_job()
    (pod,) = harness.all("pods")
    job = harness.get("jobs", "check")
    owner = pod["metadata"]["ownerReferences"][0]
    assert (pod["metadata"]["labels"][JOB_NAME], pod["metadata"]["labels"]["a"]) == ("check", "b")
    assert (owner["uid"], owner["controller"], owner["kind"]) == (job["metadata"]["uid"], True, "Job")
    assert pod["metadata"]["name"].startswith("check-")
    assert job["status"]["active"] == 1
    assert harness.events() == [("SuccessfulCreate", f"Created pod: {pod['metadata']['name']}")]


def test_a_success_completes_it() -> None:
    """And nothing more is made."""
    harness = a_job()
    end(harness, living(harness)[0], "Succeeded")
    status = harness.get("jobs", "check")["status"]
    assert (status["succeeded"], "active" in status, "completionTime" in status) == (1, False, True)
    assert conditions(harness) == {
        "SuccessCriteriaMet": "CompletionsReached",
        "Complete": "CompletionsReached",
    }
    harness.settle(3600)
    assert len(harness.all("pods")) == 1


def test_failures_are_tried_again_after_growing_delays_up_to_the_limit() -> None:
    """10 s, 20 s, then BackoffLimitExceeded."""
    harness = a_job(backoffLimit=2)
    for delay in (10, 20):
        end(harness, living(harness)[0], "Failed")
        harness.settle(delay - 1)
        assert not living(harness)
        harness.settle(1)
    end(harness, living(harness)[0], "Failed")
    assert conditions(harness) == {"FailureTarget": "BackoffLimitExceeded", "Failed": "BackoffLimitExceeded"}
    assert harness.get("jobs", "check")["status"]["failed"] == 3


def test_a_limit_of_zero_fails_at_the_first_failure() -> None:
    """A presence check is not tried again by itself."""
    harness = a_job(backoffLimit=0)
    end(harness, living(harness)[0], "Failed")
    assert conditions(harness)["Failed"] == "BackoffLimitExceeded"


def test_a_job_that_takes_too_long_fails_and_its_pods_go() -> None:
    """By its own deadline, without any event."""
    harness = a_job(activeDeadlineSeconds=60)
    harness.settle(59)
    assert not conditions(harness)
    harness.settle(1)
    assert conditions(harness)["Failed"] == "DeadlineExceeded"
    assert not living(harness)


def test_a_finished_job_goes_after_its_time_to_live() -> None:
    """By itself."""
    harness = a_job(ttlSecondsAfterFinished=30)
    end(harness, living(harness)[0], "Succeeded")
    harness.settle(29)
    assert harness.get("jobs", "check")
    harness.settle(1)
    assert not harness.get("jobs", "check")


def test_a_pod_that_somebody_deleted_is_made_anew() -> None:
    """With another name or the same, but one that runs."""
    harness = a_job()
    harness.delete("pods", living(harness)[0]["metadata"]["name"])
    harness.settle()
    assert len(living(harness)) == 1


def test_several_completions_run_as_many_at_once_as_allowed() -> None:
    """Two at a time, three in all."""
    harness = a_job(parallelism=2, completions=3)
    assert len(living(harness)) == 2
    for _ in range(3):
        end(harness, living(harness)[0], "Succeeded")
    assert harness.get("jobs", "check")["status"]["succeeded"] == 3
    assert conditions(harness)["Complete"] == "CompletionsReached"


def test_a_suspended_job_makes_no_pods_until_it_goes_on() -> None:
    """It says so, has no start until then, and says that it was resumed."""
    harness = a_job(suspend=True)
    assert not harness.all("pods")
    assert conditions(harness) == {"Suspended": "JobSuspended"}
    assert "startTime" not in harness.get("jobs", "check")["status"]
    harness.spec("jobs", "check", suspend=False)
    harness.settle()
    assert len(living(harness)) == 1
    assert conditions(harness) == {"Suspended": "JobResumed"}
    assert harness.get("jobs", "check")["status"]["startTime"]


def test_a_job_that_is_suspended_lets_its_pods_go() -> None:
    """And counts none of them as failed."""
    harness = a_job()
    harness.spec("jobs", "check", suspend=True)
    harness.settle()
    assert not harness.all("pods")
    status = harness.get("jobs", "check")["status"]
    assert (status.get("active", 0), status.get("failed", 0)) == (0, 0)
