"""The schemas of the built-in kinds other than Pods and Jobs: the fields that FlexInfer and kubectl use.

A subset of the OpenAPI schemas of Kubernetes with the same names, types and defaults; other fields are
unknown here, and so pruned with a warning or refused under strict validation. Pods and Jobs are in
`workload_schemas`.
"""

from typing import Final

from localkube.apiserver.resources import Object
from localkube.apiserver.schema_builder import (
    ANYTHING,
    FLAG,
    INT_OR_TEXT,
    LONG,
    QUANTITIES,
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
from localkube.apiserver.workload_schemas import SELECTOR

_REFERENCE: Final = record(
    apiVersion=TEXT,
    kind=TEXT,
    namespace=TEXT,
    name=TEXT,
    uid=TEXT,
    resourceVersion=TEXT,
    fieldPath=TEXT,
) | {"x-kubernetes-map-type": "atomic"}
_BYTES: Final[Object] = {"type": "object", "additionalProperties": TEXT | {"format": "byte"}}
_MODES: Final = several(one_of("ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"))
_PORT: Final = record(
    "port",
    name=TEXT,
    port=WHOLE | {"minimum": 1, "maximum": 65535},
    protocol=one_of("TCP", "UDP", "SCTP", default="TCP"),
    targetPort=INT_OR_TEXT,
    nodePort=WHOLE,
    appProtocol=TEXT,
)
SERVICE: Final[Object] = described(
    record(
        spec=described(
            record(
                type=one_of("ClusterIP", "NodePort", "LoadBalancer", "ExternalName", default="ClusterIP"),
                externalName=TEXT,
                clusterIP=TEXT,
                clusterIPs=several(TEXT),
                externalIPs=several(TEXT),
                ports=several(_PORT, "port protocol"),
                selector=TEXTS | {"x-kubernetes-map-type": "atomic"},
                sessionAffinity=by_default(TEXT, "None"),
                publishNotReadyAddresses=FLAG,
                internalTrafficPolicy=TEXT,
                externalTrafficPolicy=TEXT,
                ipFamilies=several(TEXT),
                ipFamilyPolicy=TEXT,
            ),
            "Ports, selector and type of the service.",
        ),
        status=record(loadBalancer=ANYTHING, conditions=conditions()),
    ),
    "Service is a stable name and port for the Pods that its selector matches.",
)
CONFIG_MAP: Final[Object] = described(
    record(data=TEXTS, binaryData=_BYTES, immutable=FLAG),
    "ConfigMap holds configuration data for Pods to consume.",
)
SERVICE_ACCOUNT: Final[Object] = described(
    record(
        secrets=several(_REFERENCE),
        imagePullSecrets=several(record(name=TEXT)),
        automountServiceAccountToken=FLAG,
    ),
    "ServiceAccount is a name that Pods run as; here it has no rights and no token.",
)
SECRET: Final[Object] = described(
    record(
        type=by_default(TEXT, "Opaque"),
        data=_BYTES,
        stringData=described(TEXTS, "Write-only: values as text, stored base64-encoded in data."),
        immutable=FLAG,
    ),
    "Secret holds confidential data.",
)
PERSISTENT_VOLUME_CLAIM: Final[Object] = described(
    record(
        "spec",
        spec=described(
            record(
                accessModes=_MODES,
                resources=record(requests=QUANTITIES, limits=QUANTITIES),
                storageClassName=TEXT,
                volumeName=TEXT,
                volumeMode=one_of("Filesystem", "Block", default="Filesystem"),
                selector=SELECTOR,
                dataSource=ANYTHING,
                dataSourceRef=ANYTHING,
                volumeAttributesClassName=TEXT,
            ),
            "The requested size, access modes and storage class.",
        ),
        status=record(
            phase=one_of("Pending", "Bound", "Lost"),
            accessModes=_MODES,
            capacity=QUANTITIES,
            allocatedResources=QUANTITIES,
            conditions=conditions(more=True),
        ),
    ),
    "PersistentVolumeClaim is a request for a PersistentVolume.",
)
PERSISTENT_VOLUME: Final[Object] = described(
    record(
        "spec",
        spec=record(
            capacity=QUANTITIES,
            accessModes=_MODES,
            persistentVolumeReclaimPolicy=one_of("Retain", "Delete", "Recycle", default="Retain"),
            storageClassName=TEXT,
            volumeMode=one_of("Filesystem", "Block", default="Filesystem"),
            claimRef=_REFERENCE,
            hostPath=record("path", path=TEXT, type=TEXT),
            local=record("path", path=TEXT, fsType=TEXT),
            nodeAffinity=ANYTHING,
            mountOptions=several(TEXT),
            csi=ANYTHING,
            nfs=ANYTHING,
        ),
        status=record(
            phase=one_of("Pending", "Available", "Bound", "Released", "Failed"),
            reason=TEXT,
            message=TEXT,
            lastPhaseTransitionTime=TIME,
        ),
    ),
    "PersistentVolume is a storage resource of the cluster.",
)
NODE: Final[Object] = described(
    record(
        spec=record(
            podCIDR=TEXT,
            podCIDRs=several(TEXT),
            providerID=TEXT,
            unschedulable=FLAG,
            taints=several(record("key effect", key=TEXT, value=TEXT, effect=TEXT, timeAdded=TIME)),
        ),
        status=record(
            capacity=QUANTITIES,
            allocatable=QUANTITIES,
            phase=TEXT,
            conditions=conditions(more=True),
            addresses=several(record("type address", type=TEXT, address=TEXT)),
            daemonEndpoints=record(kubeletEndpoint=record("Port", Port=WHOLE)),
            nodeInfo=ANYTHING,
            images=several(ANYTHING),
            volumesInUse=several(TEXT),
            volumesAttached=several(ANYTHING),
            runtimeHandlers=several(ANYTHING),
            features=ANYTHING,
        ),
    ),
    "Node is a worker node of the cluster.",
)
NAMESPACE: Final[Object] = described(
    record(
        spec=record(finalizers=several(TEXT)),
        status=record(phase=one_of("Active", "Terminating"), conditions=conditions()),
    ),
    "Namespace provides a scope for names.",
)
EVENT: Final[Object] = described(
    record(
        "involvedObject",
        involvedObject=_REFERENCE,
        related=_REFERENCE,
        reason=TEXT,
        message=TEXT,
        type=TEXT,
        action=TEXT,
        count=WHOLE,
        source=record(component=TEXT, host=TEXT),
        firstTimestamp=TIME,
        lastTimestamp=TIME,
        eventTime=TIME,
        series=record(count=WHOLE, lastObservedTime=TIME),
        reportingComponent=TEXT,
        reportingInstance=TEXT,
    ),
    "Event is a report of an event somewhere in the cluster.",
)
LEASE: Final[Object] = described(
    record(
        spec=record(
            holderIdentity=TEXT,
            leaseDurationSeconds=WHOLE | {"minimum": 1},
            acquireTime=TIME,
            renewTime=TIME,
            leaseTransitions=WHOLE | {"minimum": 0},
            strategy=TEXT,
            preferredHolder=TEXT,
        )
    ),
    "Lease defines a lease concept: its holder, duration and renewal time.",
)
STORAGE_CLASS: Final[Object] = described(
    record(
        "provisioner",
        provisioner=TEXT,
        parameters=TEXTS,
        reclaimPolicy=by_default(TEXT, "Delete"),
        volumeBindingMode=one_of("Immediate", "WaitForFirstConsumer", default="Immediate"),
        allowVolumeExpansion=FLAG,
        mountOptions=several(TEXT),
        allowedTopologies=several(ANYTHING),
    ),
    "StorageClass describes how PersistentVolumes are provisioned.",
)
_NAMES: Final = record(
    "plural kind",
    plural=TEXT,
    singular=TEXT,
    kind=TEXT,
    listKind=TEXT,
    shortNames=several(TEXT),
    categories=several(TEXT),
)
_VERSION: Final = record(
    "name served storage schema",
    name=TEXT,
    served=FLAG,
    storage=FLAG,
    deprecated=FLAG,
    deprecationWarning=TEXT,
    schema=record("openAPIV3Schema", openAPIV3Schema=ANYTHING),
    subresources=record(status=ANYTHING, scale=ANYTHING),
    additionalPrinterColumns=several(
        record(
            "name type jsonPath",
            name=TEXT,
            type=TEXT,
            format=TEXT,
            description=TEXT,
            priority=WHOLE,
            jsonPath=TEXT,
        )
    ),
    selectableFields=several(record("jsonPath", jsonPath=TEXT)),
)
CUSTOM_RESOURCE_DEFINITION: Final[Object] = described(
    record(
        "spec",
        spec=record(
            "group names scope versions",
            group=TEXT,
            names=_NAMES,
            scope=one_of("Namespaced", "Cluster"),
            versions=several(_VERSION),
            conversion=by_default(ANYTHING, {"strategy": "None"}),
            preserveUnknownFields=FLAG,
        ),
        status=record(
            conditions=conditions(),
            acceptedNames=_NAMES,
            storedVersions=several(TEXT),
            observedGeneration=LONG,
        ),
    ),
    "CustomResourceDefinition adds a resource to the API.",
)
