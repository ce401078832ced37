"""The schemas of Pod and Job: the fields that FlexInfer's manifests use, and other common ones.

A subset of k8s.io/api/core/v1 and batch/v1. Fields of a real API server that are missing here are treated as
unknown: an error under strict field validation, else a warning and pruned.
"""

from typing import Final

from localkube.apiserver.metadata_schema import OBJECT_META
from localkube.apiserver.resources import Object
from localkube.apiserver.schema_builder import (
    ANYTHING,
    FLAG,
    INT_OR_TEXT,
    LONG,
    QUANTITIES,
    QUANTITY,
    TEXT,
    TEXTS,
    TIME,
    WHOLE,
    by_default,
    conditions,
    described,
    one_of,
    record,
    several,
)

SELECTOR: Final[Object] = record(
    matchLabels=TEXTS,
    matchExpressions=several(record("key operator", key=TEXT, operator=TEXT, values=several(TEXT))),
) | {"x-kubernetes-map-type": "atomic"}
_REFERENCE: Final = record(name=TEXT)
_KEY_REFERENCE: Final = record("key", name=TEXT, key=TEXT, optional=FLAG)
_ENV: Final = record(
    "name",
    name=TEXT | {"minLength": 1},
    value=TEXT,
    valueFrom=record(
        fieldRef=record("fieldPath", apiVersion=by_default(TEXT, "v1"), fieldPath=TEXT),
        resourceFieldRef=record("resource", containerName=TEXT, resource=TEXT, divisor=QUANTITY),
        configMapKeyRef=_KEY_REFERENCE,
        secretKeyRef=_KEY_REFERENCE,
    ),
)
_PORT: Final = record(
    "containerPort",
    name=TEXT,
    containerPort=WHOLE | {"minimum": 1, "maximum": 65535},
    hostPort=WHOLE | {"minimum": 0, "maximum": 65535},
    hostIP=TEXT,
    protocol=one_of("TCP", "UDP", "SCTP", default="TCP"),
)
_RESOURCES: Final = record(
    limits=QUANTITIES,
    requests=QUANTITIES,
    claims=several(record("name", name=TEXT, request=TEXT), "name"),
)
_PROBE: Final = record(
    httpGet=record(
        "port",
        path=by_default(TEXT, "/"),
        port=INT_OR_TEXT,
        host=TEXT,
        scheme=one_of("HTTP", "HTTPS", default="HTTP"),
        httpHeaders=several(record("name value", name=TEXT, value=TEXT)),
    ),
    tcpSocket=record("port", port=INT_OR_TEXT, host=TEXT),
    exec=record(command=several(TEXT)),
    grpc=record("port", port=WHOLE, service=TEXT),
    initialDelaySeconds=WHOLE | {"minimum": 0},
    timeoutSeconds=by_default(WHOLE, 1) | {"minimum": 1},
    periodSeconds=by_default(WHOLE, 10) | {"minimum": 1},
    successThreshold=by_default(WHOLE, 1) | {"minimum": 1},
    failureThreshold=by_default(WHOLE, 3) | {"minimum": 1},
    terminationGracePeriodSeconds=LONG | {"minimum": 1},
)
_MOUNT: Final = record(
    "name mountPath",
    name=TEXT,
    mountPath=TEXT | {"minLength": 1},
    subPath=TEXT,
    subPathExpr=TEXT,
    readOnly=FLAG,
    recursiveReadOnly=TEXT,
    mountPropagation=TEXT,
)
_CONTAINER: Final = record(
    "name",
    name=TEXT | {"minLength": 1, "maxLength": 63, "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"},
    image=TEXT,
    command=several(TEXT),
    args=several(TEXT),
    workingDir=TEXT,
    ports=several(_PORT, "containerPort protocol"),
    env=several(_ENV, "name"),
    envFrom=several(record(prefix=TEXT, configMapRef=ANYTHING, secretRef=ANYTHING)),
    resources=by_default(_RESOURCES, {}),
    volumeMounts=several(_MOUNT, "mountPath"),
    livenessProbe=_PROBE,
    readinessProbe=_PROBE,
    startupProbe=_PROBE,
    lifecycle=ANYTHING,
    imagePullPolicy=one_of("Always", "IfNotPresent", "Never"),
    restartPolicy=TEXT,
    securityContext=ANYTHING,
    terminationMessagePath=by_default(TEXT, "/dev/termination-log"),
    terminationMessagePolicy=one_of("File", "FallbackToLogsOnError", default="File"),
    stdin=FLAG,
    stdinOnce=FLAG,
    tty=FLAG,
)
_NODE_TERM: Final = record(
    matchExpressions=several(record("key operator", key=TEXT, operator=TEXT, values=several(TEXT))),
    matchFields=several(record("key operator", key=TEXT, operator=TEXT, values=several(TEXT))),
) | {"x-kubernetes-map-type": "atomic"}
_AFFINITY: Final = record(
    nodeAffinity=record(
        requiredDuringSchedulingIgnoredDuringExecution=record(
            "nodeSelectorTerms", nodeSelectorTerms=several(_NODE_TERM)
        ),
        preferredDuringSchedulingIgnoredDuringExecution=several(
            record("weight preference", weight=WHOLE, preference=_NODE_TERM)
        ),
    ),
    podAffinity=ANYTHING,
    podAntiAffinity=ANYTHING,
)
TOLERATION: Final = record(key=TEXT, operator=TEXT, value=TEXT, effect=TEXT, tolerationSeconds=LONG)
# sources of unsupported volume types are kept, so that the kubelet can name them in an Event
_VOLUME: Final = record(
    "name",
    name=TEXT | {"minLength": 1},
    persistentVolumeClaim=record("claimName", claimName=TEXT, readOnly=FLAG),
    emptyDir=record(medium=TEXT, sizeLimit=QUANTITY),
) | {"x-kubernetes-preserve-unknown-fields": True}
_POD_SPEC: Final = record(
    "containers",
    containers=several(_CONTAINER, "name") | {"minItems": 1},
    initContainers=several(_CONTAINER, "name"),
    volumes=several(_VOLUME, "name"),
    restartPolicy=one_of("Always", "OnFailure", "Never", default="Always"),
    terminationGracePeriodSeconds=by_default(LONG, 30) | {"minimum": 0},
    activeDeadlineSeconds=LONG | {"minimum": 1},
    nodeSelector=TEXTS | {"x-kubernetes-map-type": "atomic"},
    nodeName=TEXT,
    affinity=_AFFINITY,
    tolerations=several(TOLERATION),
    schedulerName=by_default(TEXT, "default-scheduler"),
    schedulingGates=several(record("name", name=TEXT | {"minLength": 1}), "name"),
    priority=WHOLE,
    priorityClassName=TEXT,
    preemptionPolicy=TEXT,
    runtimeClassName=TEXT,
    serviceAccountName=TEXT,
    serviceAccount=TEXT,
    automountServiceAccountToken=FLAG,
    imagePullSecrets=several(_REFERENCE, "name"),
    securityContext=by_default(ANYTHING, {}),
    hostNetwork=FLAG,
    hostPID=FLAG,
    hostIPC=FLAG,
    hostname=TEXT,
    subdomain=TEXT,
    hostAliases=several(record("ip", ip=TEXT, hostnames=several(TEXT)), "ip"),
    dnsPolicy=by_default(TEXT, "ClusterFirst"),
    dnsConfig=ANYTHING,
    enableServiceLinks=FLAG,
    shareProcessNamespace=FLAG,
    readinessGates=several(record("conditionType", conditionType=TEXT)),
    resourceClaims=several(
        record("name", name=TEXT, resourceClaimName=TEXT, resourceClaimTemplateName=TEXT), "name"
    ),
    topologySpreadConstraints=several(ANYTHING),
)
_STATE: Final = record(
    waiting=record(reason=TEXT, message=TEXT),
    running=record(startedAt=TIME),
    terminated=record(
        exitCode=WHOLE,
        signal=WHOLE,
        reason=TEXT,
        message=TEXT,
        startedAt=TIME,
        finishedAt=TIME,
        containerID=TEXT,
    ),
)
_CONTAINER_STATUS: Final = record(
    "name",
    name=TEXT,
    state=_STATE,
    lastState=_STATE,
    ready=FLAG,
    started=FLAG,
    restartCount=WHOLE,
    image=TEXT,
    imageID=TEXT,
    containerID=TEXT,
    allocatedResourcesStatus=several(
        record("name", name=TEXT, resources=several(record("resourceID", resourceID=TEXT, health=TEXT))),
        "name",
    ),
)
_POD_STATUS: Final = record(
    phase=one_of("Pending", "Running", "Succeeded", "Failed", "Unknown"),
    reason=TEXT,
    message=TEXT,
    observedGeneration=LONG,
    conditions=conditions(more=True),
    hostIP=TEXT,
    hostIPs=several(record(ip=TEXT)),
    podIP=TEXT,
    podIPs=several(record(ip=TEXT), "ip"),
    startTime=TIME,
    nominatedNodeName=TEXT,
    qosClass=TEXT,
    initContainerStatuses=several(_CONTAINER_STATUS),
    containerStatuses=several(_CONTAINER_STATUS),
)
POD: Final[Object] = described(
    record(
        "spec",
        spec=described(_POD_SPEC, "PodSpec is a description of a pod."),
        status=described(_POD_STATUS, "Most recently observed status of the pod, written by the kubelet."),
    ),
    "Pod is a collection of containers that run on one node.",
)
_TEMPLATE: Final = record(
    metadata={**OBJECT_META, "default": {}},
    spec=_POD_SPEC,
)
JOB: Final[Object] = described(
    record(
        "spec",
        spec=described(
            record(
                "template",
                template=_TEMPLATE,
                parallelism=by_default(WHOLE, 1) | {"minimum": 0},
                completions=by_default(WHOLE, 1) | {"minimum": 0},
                completionMode=by_default(TEXT, "NonIndexed"),
                backoffLimit=by_default(WHOLE, 6) | {"minimum": 0},
                activeDeadlineSeconds=LONG | {"minimum": 1},
                ttlSecondsAfterFinished=WHOLE | {"minimum": 0},
                suspend=by_default(FLAG, value=False),
                selector=SELECTOR,
                manualSelector=by_default(FLAG, value=False),
                podReplacementPolicy=by_default(TEXT, "TerminatingOrFailed"),
                podFailurePolicy=ANYTHING,
            ),
            "Specification of the desired behavior of a job.",
        ),
        status=described(
            record(
                conditions=conditions(more=True),
                startTime=TIME,
                completionTime=TIME,
                active=WHOLE,
                ready=WHOLE,
                terminating=WHOLE,
                succeeded=WHOLE,
                failed=WHOLE,
                uncountedTerminatedPods=ANYTHING,
            ),
            "Current status of a job.",
        ),
    ),
    "Job runs Pods until a number of them have succeeded.",
)
