"""A kubectl session: the output of every line must be the same on both API servers."""

import re
from dataclasses import dataclass

MODEL = """
apiVersion: ai.flexinfer/v1alpha2
kind: Model
metadata:
  name: smollm2
  labels: {size: small}
spec:
  backend: llamacpp
  source: pvc://models/smollm2.gguf
"""
OTHER = MODEL.replace("smollm2.gguf", "other.gguf")
BROKEN = MODEL.replace("pvc://models/smollm2.gguf", "s3://bucket/key").replace("llamacpp", "llama")
EMPTY_KEY = MODEL + "  gpu:\n"
EMPTY_VALUE = MODEL.replace("name: smollm2\n", "name: empty\n") + "  nodeSelector: {a: }\n"
HELD = MODEL.replace("name: smollm2\n", "name: held\n  finalizers: [ai.flexinfer/test]\n")
POD = """
apiVersion: v1
kind: Pod
metadata:
  name: waits
spec:
  schedulingGates: [{name: ai.flexinfer/turn-1}]
  terminationGracePeriodSeconds: 0
  automountServiceAccountToken: false
  containers: [{name: engine, image: "example.com/engine:1", args: ["--port", "80"], resources: {limits: {memory: 1Gi, cpu: 500m}}}]
"""
NODE = """
apiVersion: v1
kind: Node
metadata: {name: drained}
"""
BOUND = """
apiVersion: v1
kind: Pod
metadata: {name: bound}
spec:
  nodeName: drained
  terminationGracePeriodSeconds: 0
  automountServiceAccountToken: false
  containers: [{name: engine, image: "example.com/engine:1"}]
"""
NEGATIVE = BOUND.replace('engine:1"', 'engine:1", resources: {limits: {memory: -1Gi}}')
ABOVE = BOUND.replace('engine:1"', 'engine:1", resources: {limits: {memory: 1Gi}, requests: {memory: 2Gi}}')
LEASE = """
apiVersion: coordination.k8s.io/v1
kind: Lease
metadata: {name: turn}
spec: {holderIdentity: first, leaseDurationSeconds: 6}
"""
EVENT = """
apiVersion: v1
kind: Event
metadata: {name: smollm2.1}
type: Normal
reason: Placed
message: runs on local
involvedObject: {apiVersion: ai.flexinfer/v1alpha2, kind: Model, name: smollm2, namespace: transcript}
firstTimestamp: "2026-11-24T12:00:00Z"
lastTimestamp: "2026-11-24T12:00:00Z"
count: 1
source: {component: flexinfer-placer}
"""
CLAIM = """
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: weights}
spec: {accessModes: [ReadWriteOnce], storageClassName: none-such, resources: {requests: {storage: 1Gi}}}
"""
SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: proxy, labels: {app: proxy}}
spec: {type: ExternalName, externalName: flexinfer-proxy.flexinfer-system.svc.cluster.local}
"""
JOB = """
apiVersion: batch/v1
kind: Job
metadata: {name: once}
spec:
  suspend: true
  template:
    spec:
      restartPolicy: Never
      containers: [{name: once, image: "example.com/once:1"}]
"""


@dataclass(frozen=True)
class Step:
    """A command line and its standard input."""

    line: str
    stdin: str = ""

    @property
    def words(self) -> list[str]:
        """The words of the line; single quotes enclose a word with blanks."""
        return [word.strip("'") for word in re.findall(r"'[^']*'|\S+", self.line)]


STEPS = (
    Step("create namespace transcript"),
    Step("create namespace transcript"),
    Step("get namespace transcript"),
    Step("get crd models.ai.flexinfer -o jsonpath={.metadata.finalizers}"),
    Step("api-versions"),
    Step("api-resources --no-headers"),
    Step("api-resources -o wide --no-headers"),
    Step("api-resources --api-group=ai.flexinfer -o wide"),
    Step("get --raw /api"),
    Step("get --raw /apis/ai.flexinfer"),
    Step("get --raw /apis/ai.flexinfer/v1alpha2"),
    Step("get --raw /apis/coordination.k8s.io/v1"),
    Step("get --raw /apis/none.such/v1"),
    Step("get --raw /api/v1/namespaces/none-such/configmaps"),
    Step("explain model"),
    Step("explain model.spec.gpu"),
    Step("explain model.spec.serverless.idleTimeout"),
    Step("explain model.status --recursive"),
    Step("explain model.spec.flavour"),
    Step("apply -f -", MODEL),
    Step("apply -f -", MODEL),
    Step("get mdl"),
    Step("get mdl -o wide"),
    Step("get mdl smollm2 -o yaml"),
    Step("get mdl smollm2 -o json"),
    Step("get mdl smollm2 -o yaml --show-managed-fields"),
    Step("get mdl -o jsonpath={.items[*].spec.source}"),
    Step("get mdl -o custom-columns=NAME:.metadata.name,BACKEND:.spec.backend"),
    Step("get mdl -o name"),
    Step("get mdl none-such"),
    Step("get mdl --show-labels"),
    Step("get mdl -l size=large"),
    Step("get mdl -l 'size in (small,large)'"),
    Step("get mdl --field-selector spec.backend=llamacpp -o name"),
    Step("get mdl --field-selector spec.source=x"),
    Step("describe mdl smollm2"),
    Step("get mdl smollm2 --subresource=scale"),
    Step("scale mdl smollm2 --replicas=0"),
    Step("create --raw /apis/ai.flexinfer/v1alpha2/namespaces/transcript/models -f -", "{}"),
    Step("apply -f -", BROKEN),
    Step("create -f -", BROKEN),
    Step("apply -f -", MODEL + "  flavour: sweet\n"),
    Step("apply --validate=warn -f -", MODEL + "  flavour: sweet\n"),
    Step("create -f -", MODEL),
    Step("diff -f -", OTHER),
    Step("diff -f -", MODEL),
    Step("apply --dry-run=server -f -", OTHER),
    Step("apply -f -", OTHER),
    Step("get mdl smollm2 -o jsonpath={.metadata.generation}"),
    Step("delete mdl smollm2"),
    Step("apply --server-side --field-manager=one -f -", MODEL),
    Step("apply --server-side --field-manager=two -f -", MODEL),
    Step("apply --server-side --field-manager=two -f -", OTHER),
    Step("apply --server-side --field-manager=two --force-conflicts -f -", OTHER),
    Step("apply --server-side --field-manager=one -f -", MODEL),
    Step("diff --server-side --field-manager=two -f -", OTHER),
    Step("get mdl smollm2 -o yaml --show-managed-fields"),
    Step("apply -f -", OTHER),
    Step('patch mdl smollm2 --type=merge -p {"spec":{"gpu":{"shared":"g"}}}'),
    Step('patch mdl smollm2 --type=merge -p {"spec":{"gpu":{"shared":"g"}}}'),
    Step('patch mdl smollm2 --type=json -p [{"op":"test","path":"/spec/gpu/shared","value":"other"}]'),
    Step('patch mdl smollm2 --type=json -p [{"op":"remove","path":"/spec/none"}]'),
    Step('patch mdl smollm2 --type=json -p [{"op":"remove","path":"/spec/gpu"}]'),
    Step("patch mdl smollm2 -p '{}'"),
    Step(
        'patch mdl smollm2 --subresource=status --type=merge -p {"status":{"phase":"Ready","conditions":[{"type":"Ready","status":"True","reason":"Up","message":"","lastTransitionTime":"2026-11-24T12:00:00Z"}]}}'
    ),
    Step('patch mdl smollm2 --subresource=status --type=merge -p {"status":{"phase":"Nonsense"}}'),
    Step("get mdl smollm2"),
    Step("wait --for=condition=Ready mdl/smollm2 --timeout=5s"),
    Step("wait --for=jsonpath={.status.phase}=Ready mdl/smollm2 --timeout=5s"),
    Step("wait --for=condition=Placed mdl/smollm2 --timeout=200ms"),
    Step("label mdl smollm2 size=large"),
    Step("label mdl smollm2 size=large --overwrite"),
    Step("label mdl smollm2 size-"),
    Step("label mdl smollm2 size=no/such"),
    Step("annotate mdl smollm2 note=hello"),
    Step("get mdl smollm2 -o jsonpath={.metadata.annotations.note}"),
    Step("replace -f -", MODEL),
    Step("create -f -", EVENT),
    Step("get events"),
    Step("events --for model/smollm2"),
    Step("describe mdl smollm2"),
    Step("create -f -", LEASE),
    Step("get leases"),
    Step("get lease turn -o yaml"),
    Step('patch lease turn --type=merge -p {"spec":{"holderIdentity":"another"}}'),
    Step("describe lease turn"),
    Step("create -f -", POD),
    Step("get pods"),
    Step("get pods -o wide"),
    Step("get pod waits -o yaml"),
    Step("describe pod waits"),
    Step("get sa"),
    Step("logs waits"),
    Step("logs waits -c other"),
    Step('patch pod waits -p {"metadata":{"labels":{"a":"b"}}}'),
    Step('patch pod waits -p {"spec":{"terminationGracePeriodSeconds":7}}'),
    Step("get pods --field-selector status.phase=Pending,spec.nodeName= -o name"),
    Step("delete pod waits"),
    Step("create configmap kept --from-literal=a=b --from-literal=c=d"),
    Step("create configmap kept --from-literal=a=b"),
    Step("get cm kept"),
    Step("get cm kept -o yaml"),
    Step("describe cm kept"),
    Step("apply -f -", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: Kept_}\n"),
    Step("create secret generic key --from-literal=password=hush"),
    Step("get secret key"),
    Step("get secret key -o jsonpath={.data.password}"),
    Step("describe secret key"),
    Step("create -f -", CLAIM),
    Step("get pvc"),
    Step("get pvc weights -o yaml"),
    Step("create -f -", SERVICE),
    Step("get service proxy"),
    Step("get service proxy -o yaml"),
    Step("create --dry-run=server -o yaml -f -", JOB),
    Step("create -f -", JOB),
    Step("wait --for=condition=Suspended job/once --timeout=50s"),
    Step("get job once"),
    Step("delete job once --cascade=foreground"),
    Step("create -f -", HELD),
    Step("delete mdl held --wait=false"),
    Step("get mdl held -o jsonpath={.metadata.finalizers}"),
    Step('patch mdl held --type=merge -p {"metadata":{"finalizers":["a.b/c","ai.flexinfer/test"]}}'),
    Step('patch mdl held --type=merge -p {"metadata":{"finalizers":null}}'),
    Step("get mdl held"),
    Step("apply --server-side -f -", EMPTY_KEY),
    Step("apply --server-side -f -", EMPTY_VALUE),
    Step("create --dry-run=server -f -", EMPTY_VALUE),
    Step("apply --server-side --dry-run=server -f -", MODEL + "  serverless:\n"),
    Step('patch mdl smollm2 --type=merge -p {"spec":{"gpu":null}}'),
    Step("apply --server-side -f -", MODEL + "  flavour: sweet\n"),
    Step("apply --server-side --validate=warn -f -", MODEL + "  gpu: {colour: red}\n"),
    Step("apply -f -", MODEL),
    Step("apply --server-side --force-conflicts -f -", MODEL),
    Step("diff -f -", MODEL),
    Step("diff --server-side -f -", MODEL),
    Step("apply --server-side --force-conflicts -f -", OTHER),
    Step("diff -f -", OTHER),
    Step("apply -f -", OTHER),
    Step("get mdl smollm2 -o yaml"),
    Step("get --raw /apis/policy"),
    Step("create -f -", NODE),
    Step("create -f -", BOUND),
    Step("create -f -", NEGATIVE),
    Step("create -f -", ABOVE),
    Step("apply -f -", MODEL + '  resources: {limits: {memory: "-1Gi"}}\n'),
    Step("cordon drained"),
    Step("drain drained"),
    Step("drain drained --force"),
    Step("get pod bound"),
    Step("create -f -", BOUND),
    Step("drain drained --force --disable-eviction"),
    Step("uncordon drained"),
    Step("delete node drained"),
    Step("delete mdl --all"),
    Step("delete mdl smollm2"),
    Step("delete mdl smollm2 --ignore-not-found"),
    Step("delete namespace transcript"),
    Step("get namespace transcript"),
    Step("get mdl"),
    Step("create configmap late --from-literal=a=b"),
    Step("version -o yaml"),
)
