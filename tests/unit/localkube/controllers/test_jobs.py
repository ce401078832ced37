"""Jobs: as many Pods as it takes, and no more than it may."""

from typing import Any

from localkube.apiserver.resources import Object
from localkube.controllers.jobs import JOB_NAME, JobController
from tests.unit.localkube.controllers.ground import Ground


def a_job(**spec: Any) -> Ground:
    """Return a ground with a Job named `check`, looked at once."""
    ground = Ground(JobController)
    template = {
        "metadata": {"labels": {"a": "b"}},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]},
    }
    ground.make("jobs", {"metadata": {"name": "check"}, "spec": {"template": template, **spec}})
    ground.settle()
    return ground


def end(ground: Ground, pod: Object, phase: str) -> None:
    """End a Pod now, and let the controller see it."""
    ended = {
        "exitCode": 0 if phase == "Succeeded" else 1,
        "finishedAt": ground.now.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    ground.status(
        "pods",
        pod["metadata"]["name"],
        phase=phase,
        containerStatuses=[{"name": "c", "state": {"terminated": ended}}],
    )
    ground.settle()


def conditions(ground: Ground) -> dict[str, str]:
    """Return the Job's conditions: type -> reason."""
    return {c["type"]: c["reason"] for c in ground.get("jobs", "check")["status"].get("conditions", ())}


def living(ground: Ground) -> list[Object]:
    """Return the Pods that have not ended."""
    return [pod for pod in ground.all("pods") if pod["status"]["phase"] not in ("Succeeded", "Failed")]


def test_a_pod_is_made_from_the_template_and_owned() -> None:
    """Labels, owner, name, status."""
    ground = a_job()
    (pod,) = ground.all("pods")
    job = ground.get("jobs", "check")
    owner = pod["metadata"]["ownerReferences"][0]
    assert (pod["metadata"]["labels"][JOB_NAME], pod["metadata"]["labels"]["a"]) == ("check", "b")
    assert (owner["uid"], owner["controller"], owner["kind"]) == (job["metadata"]["uid"], True, "Job")
    assert pod["metadata"]["name"].startswith("check-")
    assert job["status"]["active"] == 1
    assert ground.events() == [("SuccessfulCreate", f"Created pod: {pod['metadata']['name']}")]


def test_a_success_completes_it() -> None:
    """And nothing more is made."""
    ground = a_job()
    end(ground, living(ground)[0], "Succeeded")
    status = ground.get("jobs", "check")["status"]
    assert (status["succeeded"], "active" in status, "completionTime" in status) == (1, False, True)
    assert conditions(ground) == {
        "SuccessCriteriaMet": "CompletionsReached",
        "Complete": "CompletionsReached",
    }
    ground.settle(3600)
    assert len(ground.all("pods")) == 1


def test_failures_are_tried_again_after_growing_delays_up_to_the_limit() -> None:
    """10 s, 20 s, then BackoffLimitExceeded."""
    ground = a_job(backoffLimit=2)
    for delay in (10, 20):
        end(ground, living(ground)[0], "Failed")
        ground.settle(delay - 1)
        assert not living(ground)
        ground.settle(1)
    end(ground, living(ground)[0], "Failed")
    assert conditions(ground) == {"FailureTarget": "BackoffLimitExceeded", "Failed": "BackoffLimitExceeded"}
    assert ground.get("jobs", "check")["status"]["failed"] == 3


def test_a_limit_of_zero_fails_at_the_first_failure() -> None:
    """A presence check is not tried again by itself."""
    ground = a_job(backoffLimit=0)
    end(ground, living(ground)[0], "Failed")
    assert conditions(ground)["Failed"] == "BackoffLimitExceeded"


def test_a_job_that_takes_too_long_fails_and_its_pods_go() -> None:
    """By its own deadline, without any event."""
    ground = a_job(activeDeadlineSeconds=60)
    ground.settle(59)
    assert not conditions(ground)
    ground.settle(1)
    assert conditions(ground)["Failed"] == "DeadlineExceeded"
    assert not living(ground)


def test_a_finished_job_goes_after_its_time_to_live() -> None:
    """By itself."""
    ground = a_job(ttlSecondsAfterFinished=30)
    end(ground, living(ground)[0], "Succeeded")
    ground.settle(29)
    assert ground.get("jobs", "check")
    ground.settle(1)
    assert not ground.get("jobs", "check")


def test_a_pod_that_somebody_deleted_is_made_anew() -> None:
    """With another name or the same, but one that runs."""
    ground = a_job()
    ground.delete("pods", living(ground)[0]["metadata"]["name"])
    ground.settle()
    assert len(living(ground)) == 1


def test_several_completions_run_as_many_at_once_as_allowed() -> None:
    """Two at a time, three in all."""
    ground = a_job(parallelism=2, completions=3)
    assert len(living(ground)) == 2
    for _ in range(3):
        end(ground, living(ground)[0], "Succeeded")
    assert ground.get("jobs", "check")["status"]["succeeded"] == 3
    assert conditions(ground)["Complete"] == "CompletionsReached"


def test_a_suspended_job_makes_no_pods_until_it_goes_on() -> None:
    """It says so, has no start until then, and says that it was resumed."""
    ground = a_job(suspend=True)
    assert not ground.all("pods")
    assert conditions(ground) == {"Suspended": "JobSuspended"}
    assert "startTime" not in ground.get("jobs", "check")["status"]
    ground.spec("jobs", "check", suspend=False)
    ground.settle()
    assert len(living(ground)) == 1
    assert conditions(ground) == {"Suspended": "JobResumed"}
    assert ground.get("jobs", "check")["status"]["startTime"]


def test_a_job_that_is_suspended_lets_its_pods_go() -> None:
    """And counts none of them as failed."""
    ground = a_job()
    ground.spec("jobs", "check", suspend=True)
    ground.settle()
    assert not ground.all("pods")
    status = ground.get("jobs", "check")["status"]
    assert (status.get("active", 0), status.get("failed", 0)) == (0, 0)
