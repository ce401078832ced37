/* swap.pml: taking turns in one shared group (DESIGN 6, steps 4, 5, 6, 8, 9; laws 1, 2, 5, 7). Spin 6.5.
   run:   spin -DNARB=1 -DNLAU=1 -a swap.pml && gcc -O2 -DSAFETY -DCOLLAPSE -o pan pan.c && ./pan -m3000000 -n
          -DNARB=1|2 -DNLAU=1|2   instances; the first is the one that stays, every further one is a ghost: it
                                  wakes at any moment, does one whole episode with pauses anywhere, then is gone
          -DEV=n                  what the world does besides A's demand coming and going, sum of: 1 A deleted and re-created
                                  with a new uid, 2 A's group changed, 4 B's demand too (else B always asks), 8 memory taken
                                  late, 16 another client (kubectl, eviction) deletes Pods
          -DOFF=n                 leaves rules out, sum of the numbers below (what DESIGN lacked, and planted bugs)
          -DCLOCK=1               the launcher checks the deadline of its leader Lease before each call, by a correct clock
          -DCOND=1                a start needs Granted=True of this turn on the Model too, a write that follows the SharedGroup
          -DGATE=0                the node starts any Pod at once
          -DGOAL=1                do not judge the final rest
   livelock: spin -DLIVE=1 ... -a swap.pml && gcc -O2 -DCOLLAPSE -DNOREDUCE -o pan pan.c && ./pan -a -m3000000 -n
   large:  gcc -O2 -DSAFETY -DBITSTATE -o pan pan.c && ./pan -w33 -k3 -m3000000 -n   (says its coverage as hash factor)
   trail:  gcc ... -DBFS, then spin <same -D> -t -p -g swap.pml
   in tests: runs.py has the runs and what each must find; make protocol
   OFF, with the smallest run that shows it: 1, 4, 256: NLAU=2; 8, 512, 8192: NLAU=2 EV=1; 16: NLAU=1 EV=1; 32, 64, 1024, 2048: NLAU=1; 128: NLAU=1 EV=2; 4096: NARB=2 NLAU=1.
   No run of less than a minute shows 2 (budget.pml, 2, does) and 16384 (8192 covers it).
   Verified, states and seconds on one core (0.3 to 1.1 GiB each): NLAU=1 EV=31 1.4 M 4; NARB=2 NLAU=1 0.6 M 1; NLAU=1 CLOCK=1 0.2 M 1; NLAU=2 3.2 M 6; NLAU=2 EV=2 6.6 M 13;
   NLAU=2 EV=8 3.5 M 8; NLAU=2 EV=16 3.8 M 8; NLAU=2 EV=4 8.9 M 24; NLAU=2 EV=1 20.6 M 52; NARB=2 NLAU=1 EV=3 6.2 M 13; livelock NLAU=1 EV=20 0.4 M 2.
   No counter anywhere: a resourceVersion, a uid or a turn that a process remembers is one bit, "still the present one",
   cleared by every write (deletion, grant). So demand, faults and turns are unbounded and the state space finite.
   Lost, stale or doubled messages: an instance may decide at any moment, and preempt at any moment; only what
   perform GETs binds it. Every instance may die at any step (CRASH) and start again with no memory.
   Checked: S1 no two engines, no two open Pods; S2 no start while another's memory is in use; S4 no gate opened
   for a former uid; S5 no process that knows only a former turn deletes the open Pod of the present one; L1, L2 after the last
   fault (calm) the system settles (timeout) and GOAL holds there. Not here: templates, drain, NodeGone. */
#ifndef NARB
#define NARB 1
#endif
#ifndef NLAU
#define NLAU 2
#endif
#ifndef OFF
#define OFF 0
#endif
#ifndef EV
#define EV 0
#endif
#ifndef CLOCK
#define CLOCK 0
#endif
#ifndef COND
#define COND 0
#endif
#ifndef GATE
#define GATE 1
#endif
#define NP (NARB+NLAU)
#define E_DEL (EV&1)
#define E_OUT (EV&2)
#define E_B (EV&4)
#define E_LATE ((EV&8)!=0)
#define E_KILL (EV&16)
/* rules; OFF=n takes one away */
#define F_ORDER (!(OFF&1))      /* gated Pod first, then GET Model and SharedGroup, then the gate */
#define F_PTURN (!(OFF&2))      /* AlreadyExists and GET SharedGroup compare the turn, not only the uid */
#define F_SEEN (!(OFF&4))       /* a Pod is deleted only if seen before the GET of Model and Lease that condemns it */
#define F_FINRV (!(OFF&8))      /* finalizer removed with resourceVersion, not only uid */
#define F_GONE (!(OFF&16))      /* arbiter: the holder's Model is gone = stopped */
#define F_TELE (!(OFF&32))      /* memory sample taken after the step Stopped was read */
#define F_TURN (!(OFF&64))      /* report carries the turn only if Releasing was read before the stop */
#define F_OUT (!(OFF&128))      /* who leaves the group stays its member until Freed */
#define F_FINDEL (!(OFF&8192))  /* finalizer removed only from a Model that is being deleted */
#define F_GATED (!(OFF&256))    /* planted bugs from here: LIST leaves out gated Pods */
#define F_TEST (!(OFF&512))     /* gate opened by name, no test of Pod uid and gate */
#define F_LIST (!(OFF&1024))    /* Stopped reported after DELETE, without an empty LIST */
#define F_WAIT (!(OFF&2048))    /* SharedGroup moved without waiting for the report */
#define F_SGRV (!(OFF&4096)) /* SharedGroup PUT without resourceVersion */
#define F_FINGET (!(OFF&16384)) /* GET of (2) does not look for the finalizer */
#define NONE 2
#define GRANTED 0
#define RELEASING 1
#define STOPPED 2
#define FREED 3
/* API */
bit ex[2]=1; bit del[2]; bit fin[2]; bit want[2]; bit out[2]; bit mg[2];
byte rdy[2]; bit rturn[2];               /* Ready: 0 nothing, 1 True, 2 False/Stopped; report carries the present turn */
byte step=FREED; byte hold=NONE; bit huid;
/* Pod of the fixed name: 0 absent, 1 gated, 2 open, 3 its process runs, 4 terminating; label uid lives; turn is the present */
byte pod[2]; bit pown[2]; bit pturn[2]; bit proc[2]; bit mem[2];
/* what an instance knows: still true? (M resourceVersion, U uid of the Model, P uid of the Pod, L SharedGroup, T turn) */
byte fM[2]; byte fU[2]; byte fP[2]; byte fL; byte fT; byte rel;   /* one bit an instance */
bit calm; bit rest;
#if CLOCK
byte lead=0; bit lost[2];
#endif
#define B(p) (1<<(p))
#define X(a,p,m) ((a[m]>>(p))&1)
#define Y(a,p) ((a>>(p))&1)
#define SET(a,p,m) a[m]=a[m]|B(p)
#define UNSET(a,p) a[0]=a[0]&(255-B(p)); a[1]=a[1]&(255-B(p))
#define clr(a,m) a[m]=0
#define keep(a,p,m) a[m]=a[m]&B(p)
byte q;
inline gone(m){ ex[m]=0; del[m]=0; fin[m]=0; want[m]=0; out[m]=0; mg[m]=0; rdy[m]=0; rturn[m]=0; pown[m]=0;
  clr(fM,m); clr(fU,m); if :: hold==m -> huid=0 :: else fi }
inline delpod(m){ if :: pod[m]==1 -> pod[m]=0; pown[m]=0; pturn[m]=0; clr(fP,m) :: else -> pod[m]=4 fi }
#define MAYHOLD(m) (hold==m && huid && step==GRANTED)
#define MAYRUN(m) (ex[m] && !del[m] && want[m] && (!COND || mg[m]) && ((F_OUT && !out[m] && MAYHOLD(m)) || (!F_OUT && (out[m] || MAYHOLD(m)))))
#define ASKED(m) (hold==m && huid && step==RELEASING && (F_OUT || !out[m]) && !(rdy[m]==2 && rturn[m]))
#define OPEN(m)  (pod[m]>=2)
#define FINE(m)  (pown[m] && (pturn[m] || !F_PTURN || (!F_OUT && out[m])))
#define OURS(m)  (pod[m]!=0 && pown[m])
#define TODO(m)   ((OURS(m) && pod[m]!=4) || (fin[m] && (del[m] || !F_FINDEL)) || ASKED(m) || rdy[m]==1)
#define CRASH(f) (!calm || me!=f)
#define ON(f) (me==f || (!calm && !once))
#define ASKS(m) (ex[m] && !del[m] && want[m] && !out[m])
#define S5 assert(!(OPEN(m) && pod[m]!=4 && pown[m] && pturn[m] && MAYRUN(m)) || Y(fT,me))
#define F NARB
/* one turn of the loop: GET SharedGroup (and Model), then PUT with resourceVersion; may sleep between the two */
proctype Arbiter(byte me){ byte m; byte nx; bit once;
top: m=0; nx=0;
end: atomic { if
  :: ON(0) && step==FREED && ASKS(0) -> m=0; nx=GRANTED; SET(fU,me,m)
  :: ON(0) && step==FREED && ASKS(1) -> m=1; nx=GRANTED; SET(fU,me,m)
  :: ON(0) && step==GRANTED && (!calm || !huid || del[hold] || !want[hold] || out[hold]) -> nx=RELEASING
  :: ON(0) && step==RELEASING && ((F_GONE && !huid) || (huid && rdy[hold]==2 && rturn[hold]) || !F_WAIT) -> nx=STOPPED
  :: ON(0) && step==STOPPED && (!F_TELE || (!mem[0] && !mem[1])) -> nx=FREED
  fi; fL=fL|B(me); once=(me!=0) }
  atomic { if
  :: (Y(fL,me) || !F_SGRV) ->
     step=nx; fL=0;
     if :: nx==GRANTED -> hold=m; huid=X(fU,me,m); rturn[0]=0; rturn[1]=0; pturn[0]=0; pturn[1]=0; mg[0]=0; mg[1]=0; rel=0; fT=0 :: else fi
  :: !Y(fL,me) && F_SGRV
  :: CRASH(0)
  fi; fL=fL&(255-B(me)); UNSET(fU,me); goto top }
}
#if CLOCK
#define CHECK if :: !lost[me-NARB] :: lost[me-NARB] -> goto top fi
#define LEAD (ON(F) && lead==me-NARB)
#define LED lost[me-NARB]=0; once=(me!=F)
#else
#define CHECK skip
#define LEAD ON(F)
#define LED once=(me!=F)
#endif
#define START(m) (MAYRUN(m) && pod[m]!=4 && !(OPEN(m) && FINE(m)))
#define READY(m) (MAYRUN(m) && pod[m]==3 && FINE(m) && rdy[m]!=1)
/* the calls of a start; FINAL and POST go out side by side, so do the two GETs: either order (o) */
#define FINAL if :: X(fU,me,m) && !del[m] -> if :: !fin[m] -> fin[m]=1; clr(fM,m) :: else fi /* JSON patch, test on uid */ \
              :: !(X(fU,me,m) && !del[m]) :: CRASH(F) -> goto top fi
#define SAME (pown[m] && X(fU,me,m) && ((pturn[m] && Y(fT,me)) || !F_PTURN))
#define POST  if :: pod[m]==0 -> pod[m]=1; pown[m]=X(fU,me,m); pturn[m]=Y(fT,me); SET(fP,me,m) \
              :: pod[m]!=0 && SAME -> SET(fP,me,m) :: pod[m]!=0 && !SAME -> SET(fP,me,m); goto other :: CRASH(F) -> goto top fi
#define GETM  if :: X(fU,me,m) && !del[m] && (fin[m] || !F_FINGET) :: else -> goto top fi
#define GETL  if :: (hold==m && step==GRANTED && (Y(fT,me) || (!F_PTURN && huid && X(fU,me,m)))) || (!F_OUT && out[m]) :: else -> goto top fi
/* every atomic is one API call; it may sleep, or die, between any two */
proctype Launcher(byte me){ byte m; bit once; bit o;
top: atomic { m=0; o=0; UNSET(fU,me); UNSET(fM,me); UNSET(fP,me); rel=rel&(255-B(me)); fT=fT&(255-B(me)) }
end: atomic { if
  :: LEAD && START(0) -> LED; m=0; SET(fU,me,0); fT=fT|B(me); if :: o=0 :: o=1 fi; goto start
  :: LEAD && (me==F) && START(1) -> LED; m=1; SET(fU,me,1); fT=fT|B(me); if :: o=0 :: o=1 fi; goto start
  :: LEAD && ex[0] && !MAYRUN(0) && TODO(0) -> LED; m=0; if :: OURS(0) && F_SEEN -> SET(fP,me,0) :: else fi; goto stop
  :: LEAD && (me==F) && ex[1] && !MAYRUN(1) && TODO(1) -> LED; m=1; if :: OURS(1) && F_SEEN -> SET(fP,me,1) :: else fi; goto stop
  :: LEAD && READY(0) -> LED; m=0; SET(fU,me,0); goto ready
  :: LEAD && (me==F) && READY(1) -> LED; m=1; SET(fU,me,1); goto ready
  fi }
ready: /* GET Model, SSA of Ready=True */
  atomic { if :: X(fU,me,m) -> SET(fM,me,m) :: else -> goto top fi }
  atomic { if :: X(fM,me,m) -> rdy[m]=1; rturn[m]=0; keep(fM,me,m) :: !X(fM,me,m) :: CRASH(F) fi; goto top }
start:
#if !F_ORDER
  atomic { FINAL }
  atomic { GETM; GETL }
  CHECK;
  atomic { POST }
#else
  CHECK;
  if :: atomic { !o -> FINAL } :: atomic { o -> POST } fi;
  CHECK;
  if :: atomic { o -> FINAL } :: atomic { !o -> POST } fi;
  if :: atomic { !o -> GETM } :: atomic { o -> GETL } fi;
  if :: atomic { o -> GETM } :: atomic { !o -> GETL } fi;
#endif
  CHECK;
  atomic { if
     :: pod[m]==1 && (X(fP,me,m) || !F_TEST) ->
        assert(!OPEN(1-m));                         /* S1, strong */
        assert(pown[m] && ex[m] && X(fU,me,m));     /* S4: not for a former uid */
        pod[m]=2
     :: !(pod[m]==1 && (X(fP,me,m) || !F_TEST))
     :: CRASH(F) fi; goto top }
other: /* AlreadyExists, but not ours, not this turn: DELETE that uid */
#if F_SEEN
  atomic { if :: X(fU,me,m) && !del[m] -> GETL :: else -> goto top fi }   /* (2) without the finalizer: it may still be on its way */
#endif
  CHECK;
  atomic { if :: X(fP,me,m) && pod[m]!=4 -> S5; delpod(m) :: !(X(fP,me,m) && pod[m]!=4) :: CRASH(F) fi; goto top }
stop: /* GET Model and SharedGroup; DELETE by uid; LIST Pods by model-uid until empty; report; finalizer off */
  atomic { if :: ex[m] -> SET(fM,me,m); SET(fU,me,m); fT=fT|B(me); rel = rel | ((hold==m && huid && (step==RELEASING || !F_TURN))<<me)
              :: !ex[m] -> goto top fi;
       if :: MAYRUN(m) -> goto top :: else fi }
dele:
  CHECK;
  atomic { if :: X(fP,me,m) && pod[m]!=4 -> S5; delpod(m) :: !(X(fP,me,m) && pod[m]!=4) :: CRASH(F) -> goto top fi }
list:
  atomic { if :: X(fU,me,m) && (!OURS(m) || (!F_LIST && pod[m]==4) || (!F_GATED && pod[m]==1))
              :: X(fU,me,m) && OURS(m) && pod[m]!=4 && (F_GATED || pod[m]!=1) ->
                 if :: F_SEEN -> goto top :: !F_SEEN -> SET(fP,me,m); goto dele fi
              :: !X(fU,me,m) || MAYRUN(m) -> goto top :: CRASH(F) -> goto top fi }
  CHECK;
  atomic { if :: X(fM,me,m) -> if :: rdy[m]==2 && rturn[m]==Y(rel,me) :: else -> rdy[m]=2; rturn[m]=Y(rel,me); keep(fM,me,m) fi
              :: !X(fM,me,m) && X(fU,me,m) && !MAYRUN(m) -> SET(fM,me,m); goto again     /* 409: one GET, the same patch */
              :: !X(fM,me,m) -> goto top :: CRASH(F) -> goto top fi }
  CHECK;
  atomic { if :: (F_FINRV -> X(fM,me,m) : X(fU,me,m)) && fin[m] && (del[m] || !F_FINDEL) -> fin[m]=0; keep(fM,me,m);
                 if :: del[m] -> gone(m) :: else fi
              :: !((F_FINRV -> X(fM,me,m) : X(fU,me,m)) && fin[m] && (del[m] || !F_FINDEL))
              :: CRASH(F) fi; goto top }
again:
  atomic { if :: X(fM,me,m) -> rdy[m]=2; rturn[m]=Y(rel,me); keep(fM,me,m) :: !X(fM,me,m) :: CRASH(F) fi; goto top }
}
#define GC(m)   :: atomic { pod[m]!=0 && pod[m]!=4 && !pown[m] -> delpod(m) } /* owner gone */
#define TELL(m) :: atomic { COND && ex[m] && mg[m]!=MAYHOLD(m) -> mg[m]=MAYHOLD(m); clr(fM,m) }
#define NODE(m) :: atomic { pod[m]==2 && (!GATE || !proc[1-m]) -> assert(!proc[1-m] && !mem[1-m]); proc[m]=1; pod[m]=3; if :: !E_LATE -> mem[m]=1 :: else fi } \
                :: atomic { E_LATE && proc[m] && !mem[m] -> mem[m]=1 } \
                :: atomic { pod[m]==4 -> proc[m]=0; pod[m]=0; pown[m]=0; pturn[m]=0; clr(fP,m) } \
                :: atomic { !proc[m] && mem[m] -> mem[m]=0 }
proctype World(){
end: do
  GC(0) GC(1)
  TELL(0) TELL(1)
  NODE(0) NODE(1)
  od }
#define DEMAND(m) (ex[m] && want[m] && !out[m])
#define SERVED(m) (DEMAND(m) && rdy[m]==1 && proc[m] && MAYHOLD(m))
#define REST(m)   (SERVED(m) || (pod[m]==0 && rdy[m]!=1) || (!F_OUT && out[m]))
#ifndef GOAL
#define GOAL ((!del[0]) && ((DEMAND(0)||DEMAND(1)) -> (SERVED(0)||SERVED(1)) : 1) && REST(0) && REST(1))
#endif
init { atomic { want[1]=1;
  for (q : 0 .. NARB-1) { run Arbiter(q) }
  for (q : NARB .. NP-1) { run Launcher(q) } q=0; run World() }
  do
  :: atomic { ex[0] && !del[0] -> want[0]=1-want[0]; clr(fM,0) }
  :: atomic { E_B && ex[1] -> want[1]=1-want[1]; clr(fM,1) }
  :: atomic { E_DEL && ex[0] && !del[0] -> del[0]=1; clr(fM,0); if :: !fin[0] -> gone(0) :: else fi }
  :: atomic { !ex[0] -> ex[0]=1 }
  :: atomic { E_OUT && ex[0] && !del[0] && !out[0] -> out[0]=1; clr(fM,0) }
  :: atomic { E_KILL && pod[0]!=0 && pod[0]!=4 -> delpod(0) }
#if CLOCK
  :: atomic { lost[lead]=1; lead=1-lead }
  :: atomic { calm=1; lost[1]=1; lead=0 } -> break
#else
  :: calm=1 -> break
#endif
  od;
  do :: timeout -> atomic { assert(GOAL); rest=1 }; break od
}
#if LIVE
never { do :: !calm :: calm -> break od; accept: do :: !rest od }   /* no run continues without end after the last fault */
#endif
