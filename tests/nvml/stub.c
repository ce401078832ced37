/* A libnvidia-ml.so.1 that does what a script says: $NVML_SCRIPT, one line a fact, made by tests/nvml/__init__.py.
 *
 *   step                                        begins the facts of one probe; the last step stays
 *   init CODE | count CODE                      these calls fail
 *   device UUID|NAME|DOMAIN|BUS|MAJOR|MINOR|TOTAL|RESERVED|USED|BUSY|CELSIUS|MILLIWATTS|MIG|EVENTS|HANDLE|MEMORY
 *                                               sizes in bytes; -1: not supported; HANDLE and MEMORY: codes of these calls
 *   process DEVICE KIND PID FIRST SECOND        KIND c or g; bytes in the first and second listing of a probe, -1: not reported
 *   list DEVICE CODE                            listing processes fails
 *   xid DEVICE NUMBER                           an event; DEVICE -1: of no device
 *
 * With -DOLD_DRIVER it lacks what old drivers lack. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned long long u64;
typedef struct { char uuid[64], name[96]; unsigned domain, bus; int major, minor; long long total, reserved, used;
                 int busy, celsius, power, mig, events, handle, memory, list; } device;
typedef struct { int device; char kind; unsigned pid; long long bytes[2]; } process;
typedef struct { int device; u64 number; } xid;
typedef struct { int init, count, devices, processes, xids; device device[8]; process process[16]; xid xid[16]; } step;

static step steps[16];
static int number_of_steps = 0, current = -1, opened = 0, next_xid = 0, listings[8][2];
static char registered[8];

static void load(void) {
  char line[512];
  FILE *file = fopen(getenv("NVML_SCRIPT"), "r");
  step *s = NULL;
  while (file && fgets(line, sizeof line, file)) {
    if (!strncmp(line, "step", 4)) { s = &steps[number_of_steps++]; continue; }
    device *d = &s->device[s->devices];
    process *p = &s->process[s->processes];
    xid *x = &s->xid[s->xids];
    int index, code;
    if (sscanf(line, "init %d", &s->init) == 1 || sscanf(line, "count %d", &s->count) == 1) continue;
    if (sscanf(line, "device %63[^|]|%95[^|]|%u|%u|%d|%d|%lld|%lld|%lld|%d|%d|%d|%d|%d|%d|%d", d->uuid, d->name, &d->domain, &d->bus,
               &d->major, &d->minor, &d->total, &d->reserved, &d->used, &d->busy, &d->celsius, &d->power, &d->mig, &d->events,
               &d->handle, &d->memory) == 16) { s->devices++; continue; }
    if (sscanf(line, "process %d %c %u %lld %lld", &p->device, &p->kind, &p->pid, &p->bytes[0], &p->bytes[1]) == 5) { s->processes++; continue; }
    if (sscanf(line, "list %d %d", &index, &code) == 2) { s->device[index].list = code; continue; }
    if (sscanf(line, "xid %d %llu", &x->device, &x->number) == 2) { s->xids++; continue; }
    fprintf(stderr, "stub: cannot read %s", line);
    abort();
  }
  if (file) fclose(file);
}

static step *now(void) { return &steps[current]; }
static device *of(void *handle) { return &now()->device[(long)handle - 1]; }

static void advance(void) {
  if (current + 1 < number_of_steps) { current++; next_xid = 0; }
  memset(listings, 0, sizeof listings);
}

int nvmlInitWithFlags(unsigned flags) {
  if (!number_of_steps) load();
  advance();
  opened = !now()->init;
  return now()->init;
}
int nvmlShutdown(void) { memset(registered, 0, sizeof registered); return 0; }
const char *nvmlErrorString(int code) {
  switch (code) {
    case 3: return "Not Supported"; case 4: return "Insufficient Permissions"; case 9: return "Driver Not Loaded";
    case 15: return "GPU is lost"; case 16: return "GPU requires reset"; default: return "Unknown Error";
  }
}
int nvmlDeviceGetCount_v2(unsigned *count) {
  if (opened) opened = 0; else advance();
  *count = now()->devices;
  return now()->count;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) { *handle = (void *)(long)(index + 1); return of(*handle)->handle; }
int nvmlDeviceGetUUID(void *handle, char *text, unsigned size) { snprintf(text, size, "%s", of(handle)->uuid); return 0; }
int nvmlDeviceGetName(void *handle, char *text, unsigned size) { snprintf(text, size, "%s", of(handle)->name); return 0; }
int nvmlDeviceGetCudaComputeCapability(void *handle, int *major, int *minor) {
  *major = of(handle)->major; *minor = of(handle)->minor; return *major < 0 ? 3 : 0;
}
typedef struct { char legacy[16]; unsigned domain, bus, device, id, subsystem; char address[32]; } pci;
int nvmlDeviceGetPciInfo_v3(void *handle, pci *info) {
  memset(info, 0, sizeof *info);
  info->domain = of(handle)->domain; info->bus = of(handle)->bus;
  snprintf(info->address, 32, "%08X:%02X:00.0", info->domain, info->bus);
  return 0;
}

typedef struct { u64 total, free, used; } memory_1;
int nvmlDeviceGetMemoryInfo(void *handle, memory_1 *m) {
  device *d = of(handle);
  m->total = d->total; m->used = d->used + d->reserved; m->free = m->total - m->used;
  return d->memory ? d->memory : d->total < 0 ? 3 : 0;
}

static int list(void *handle, char kind, unsigned *count, void *into, int graphics) {
  typedef struct { unsigned pid; u64 used; unsigned gpu, compute; } entry;
  entry *out = into;
  unsigned found = 0, room = *count;
  if (of(handle)->list) return of(handle)->list;
  for (int i = 0; i < now()->processes; i++) {
    process *p = &now()->process[i];
    if (p->device != (long)handle - 1 || p->kind != kind) continue;
    if (out && found < room) {
      long long bytes = p->bytes[listings[p->device][graphics] % 2];
      out[found].pid = p->pid; out[found].used = bytes < 0 ? ~0ull : (u64)bytes; out[found].gpu = out[found].compute = ~0u;
    }
    found++;
  }
  *count = found;
  if (found > room) return 7;
  if (out) listings[(long)handle - 1][graphics]++;
  return 0;
}

#ifdef OLD_DRIVER
int nvmlDeviceGetComputeRunningProcesses_v2(void *handle, unsigned *count, void *into) { return list(handle, 'c', count, into, 0); }
#else
int nvmlDeviceGetComputeRunningProcesses_v3(void *handle, unsigned *count, void *into) { return list(handle, 'c', count, into, 0); }
int nvmlDeviceGetGraphicsRunningProcesses_v3(void *handle, unsigned *count, void *into) { return list(handle, 'g', count, into, 1); }
typedef struct { unsigned version; u64 total, reserved, free, used; } memory_2;
int nvmlDeviceGetMemoryInfo_v2(void *handle, memory_2 *m) {
  device *d = of(handle);
  m->total = d->total; m->reserved = d->reserved; m->used = d->used; m->free = m->total - m->used - m->reserved;
  return d->memory ? d->memory : d->total < 0 ? 3 : 0;
}
typedef struct { unsigned gpu, memory; } utilization;
int nvmlDeviceGetUtilizationRates(void *handle, utilization *u) { u->gpu = u->memory = of(handle)->busy; return of(handle)->busy < 0 ? 3 : 0; }
int nvmlDeviceGetTemperature(void *handle, int sensor, unsigned *celsius) { *celsius = of(handle)->celsius; return of(handle)->celsius < 0 ? 3 : 0; }
int nvmlDeviceGetPowerUsage(void *handle, unsigned *milliwatts) { *milliwatts = of(handle)->power; return of(handle)->power < 0 ? 3 : 0; }
int nvmlDeviceGetMigMode(void *handle, unsigned *mode, unsigned *pending) { *mode = *pending = of(handle)->mig; return of(handle)->mig < 0 ? 3 : 0; }

typedef struct { void *device; u64 type, data; unsigned gpu, compute; } event;
int nvmlEventSetCreate(void **set) { *set = (void *)1; return 0; }
int nvmlEventSetFree(void *set) { return 0; }
int nvmlDeviceRegisterEvents(void *handle, u64 types, void *set) {
  if (of(handle)->events < 0) return 3;
  registered[(long)handle - 1] = 1;
  return 0;
}
int nvmlEventSetWait_v2(void *set, event *e, unsigned milliseconds) {
  while (next_xid < now()->xids) {
    xid *x = &now()->xid[next_xid++];
    if (x->device >= 0 && !registered[x->device]) continue;
    memset(e, 0, sizeof *e);
    e->device = (void *)(long)(x->device + 1); e->type = 8; e->data = x->number;
    return 0;
  }
  return 10;
}
#endif
