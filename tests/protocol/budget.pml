/* budget.pml: several holders within one memory budget (DESIGN 6, steps 5, 6, 9; laws 1, 2, 5, 7). Spin 6.5. It follows swap.pml, which has one holder;
   what that checks besides (groups left, own lease by clock) is not repeated.
   run:   spin -DNM=2 -DEV=25 -a budget.pml && gcc -w -O2 -DSAFETY -DCOLLAPSE -o pan pan.c && ./pan -m4000000 -n
          -DNM=2|3 members, -DS0= -DS1= -DS2= their memory, -DCAP= the budget (default: 1,1 on 2; 1,1,2 on 3); the higher number has the higher priority
          -DNARB=1|2 -DNLAU=1|2 instances; the first stays, the second wakes at any moment, does one whole episode with pauses anywhere, then is gone
          -DEV=n      sum of: 1 member 0 deleted and re-created with a new uid, 2 SharedGroup loses its status (-DLOSSES=1 times), 4 member 1's demand goes and comes
                      too, 8 memory taken late, 16 another client deletes member 0's Pod (crash, eviction, kubectl), 32 a foreign process of 1, 64 member 1 outgrows
                      its footprint by 1, 128 telemetry ends and returns (the agent is silent, a device missing), perhaps not before the end, 256 the arbiter's
                      perform is calls of its own, between which the holder's demand may return, 512 member 0's template changes, 1024 the node falls silent (its
                      processes continue), and is heard again, or is given up (nothing runs there any more) and comes back empty. Memory always comes back late. Member 0's demand comes and goes; the others always ask
          -DLEASE=1   the last member is a GPULease: expires, is deleted and re-created; a person starts a process while its status says Granted
          -DIDLE=1|2|3 fewer demands: only member 0's | only the others', always | everybody's, always
          -DPAIR=1    two devices: member 0 takes its memory on both, member 1 on the second; a foreign process is on the first
          -DSPLIT=1   a sample is three calls (processes, total, processes), with pauses between
          -DOFF=n     leaves clauses out, see below; each brings its counterexample back. The runs that the tests make are in runs.py: make protocol
   rest:  after the last fault (calm) everything settles (timeout) and GOAL holds; -DGOAL=1 does not judge it
   livelock: spin -DLIVE=1 -DNM=3 -DCAP=2 -DIDLE=3 ... && gcc -w -O2 -DCOLLAPSE -DNOREDUCE -o pan pan.c && ./pan -a -m3000000 -n
   A remembered uid, resourceVersion or turn is one bit, "still the present one", as in swap.pml; demand, faults, turns are unbounded, losses are not.
   Checked: S1 (CAPOK) whenever a process takes memory, what is in use is within the budget; not counted: a foreign process, or the excess of a grown holder,
   that no grant has been judged with since it came. S2 never two containers of one name. S4 a gate opens only for the present uid, with an entry of
   it that is Granted with this turn, or Releasing. S5 Freed never before the leaver's memory is back. S6 no open Pod is deleted by us unless Releasing, Wanted=False or a
   deletion was read. S7 Stopped never while a Pod of that uid may run. S8 Releasing for want of demand is not written when the demand was there
   during the whole perform (from the GET of SharedGroup to the PUT). S9 Stopped never while a process of it runs, on a silent node too. L after calm: the member that fits by priority is served; while telemetry is away, that every member is at a step that needs none.
   OFF, with the smallest run that shows it (I = -DNM=2 -DIDLE=1 -DCAP=1, L = -DNM=2 -DLEASE=1 -DIDLE=2 -DCAP=1 -DNARB=2, K = the same with IDLE=3 and EV=2):
   1, 2, 4, 524288: I NLAU=2; 8: I NLAU=2 EV=1; 16: NM=2 EV=16; 32, 64, 32768: I; 128: NM=2; 256: NM=2 EV=64 or 2; 512: I NARB=2 EV=2 LOSSES=2; 1024, 4194304: K GOAL=1;
   2048, 4096, 1048576: NM=2 EV=2; 2097152: NM=2 EV=2 LOSSES=2; 8192: the livelock run; 16384: I NARB=2; 65536, 262144: L; 131072: NM=2 LEASE=1 EV=32; 8388608: NM=2 SPLIT=1;
   16777216: I EV=128; 33554432: I EV=256; 67108864: NM=2 CAP=1 PAIR=1; 134217728: I PAIR=1; 268435456: I EV=512; 536870912: I NLAU=2 EV=512; 1073741824: I EV=1024
   Verified, states and seconds on one core (0.35 to 0.8 GiB each): NM=3 7.7 M 14; NM=3 CAP=2 IDLE=3 EV=16 1.2 M 2; NM=2 EV=25 4.3 M 8; NM=2 EV=2 5.0 M 8; NM=2 EV=96 2.6 M 5;
   NM=2 SPLIT=1 EV=40 3.8 M 7; NM=2 LEASE=1 EV=32 1.3 M 3; K 6.0 M 13; L EV=2 0.1 M; I NLAU=2 EV=25 5.6 M 13; I NLAU=2 EV=2 6.8 M 14; I NARB=2 EV=2 LOSSES=2 2.4 M 4; livelock 1.4 M 3;
   NM=2 EV=4 2.7 M 5; NM=3 S1=2 6.0 M 18; NM=2 NARB=2 12.0 M 26; I NARB=2 NLAU=2 9.7 M 26. Greatest depth 272,118.
   With telemetry that ends: NM=2 EV=128 1.5 M 3; NM=2 EV=160 3.4 M 9; NM=2 LEASE=1 EV=160 2.6 M 8; NM=3 CAP=2 IDLE=3 EV=144 2.4 M 7; I NLAU=2 EV=128 1.9 M 5; I NARB=2 EV=128 0.1 M; NM=2 EV=153 8.5 M 25.
   With demand that returns: NM=2 EV=256 1.2 M 3; I NARB=2 EV=256 0.2 M; L EV=386 0.2 M 1; NM=2 EV=384 (both) 2.3 M 6; NM=2 EV=281 6.3 M 18; I NLAU=2 EV=281 9.1 M 35.
   With two devices: NM=2 CAP=1 PAIR=1 EV=33 0.5 M 2; I PAIR=1 NLAU=2 1.2 M 9. With a template that changes: NM=2 EV=512 2.3 M 14; I NLAU=2 EV=512 3.4 M 24. With a node that
   falls silent: NM=2 EV=1024 3.1 M 14; I NARB=2 EV=1024 0.2 M; I NLAU=2 EV=1024 3.1 M 21.
   Not here: more than two devices, drain, a finalizer removed by force, two ghosts at once with everything else. */
#ifndef NM
#define NM 3
#endif
#ifndef NARB
#define NARB 1
#endif
#ifndef NLAU
#define NLAU 1
#endif
#ifndef EV
#define EV 0
#endif
#ifndef OFF
#define OFF 0
#endif
#ifndef LEASE
#define LEASE 0
#endif
#ifndef IDLE
#define IDLE 0
#endif
#ifndef SPLIT
#define SPLIT 0
#endif
#ifndef CAP
#define CAP (NM==2 -> 2 : 3)
#endif
#ifndef S0
#define S0 1
#endif
#ifndef S1
#define S1 1
#endif
#ifndef S2
#define S2 2
#endif
#if NM==2
#define S(m) ((m)==0 -> S0 : S1)
#else
#define S(m) ((m)==0 -> S0 : ((m)==1 -> S1 : S2))
#endif
#define NP (NARB+NLAU)
#define E_DEL (EV&1)
#define E_LOSS (EV&2)
#define E_B (EV&4)
#define E_LATE ((EV&8)!=0)
#define E_KILL (EV&16)
#define E_FOR (EV&32)
#define E_GROW (EV&64)
#define E_BLIND ((EV&128)!=0)
#define E_BACK ((EV&256)!=0)
#define E_TPL ((EV&512)!=0)
#define E_NODE ((EV&1024)!=0)
#ifndef PAIR
#define PAIR 0
#endif
#if PAIR && (NM!=2 || LEASE || SPLIT || EV&64)
#error two devices are modelled with two members, without leases, samples in three calls, and growth
#endif
#if SPLIT && E_BLIND
#error a sample in three calls is not modelled together with telemetry that ends
#endif
#define F_ORDER (!(OFF&1))  /* gated Pod first, then the GETs, then the gate */
#define F_PTURN (!(OFF&2))  /* AlreadyExists and GET compare the turn */
#define F_SEEN (!(OFF&4))  /* a Pod is deleted only if seen before the GETs that condemn it */
#define F_FINRV (!(OFF&8))  /* finalizer removed with resourceVersion */
#define F_ONE (!(OFF&16))  /* NEW one Pod a turn: status.backend names turn and Pod before the gate opens */
#define F_TELE (!(OFF&32))  /* Freed needs a sample taken after Stopped was read */
#define F_TURN (!(OFF&64))  /* report carries the turn only if Releasing was read before the stop */
#define F_HELD (!(OFF&128))  /* NEW Freed: the others count for what their processes are seen to hold, not for their entries */
#define F_OTHERS (!(OFF&256))  /* NEW grant: all in use beyond what the holders' processes are seen to hold (each at most its entry) counts as others' */
#define F_LOOK (!(OFF&512))  /* NEW LIST after the GET of the object without status */
#define F_ADOPT (!(OFF&1024))  /* NEW a lease whose status says Granted becomes a holder again */
#define F_GATED (!(OFF&1048576))  /* NEW gated Pods become holders too */
#define F_GREL (!(OFF&2097152))  /* NEW and as Releasing, not as Granted */
#define F_LBUMP (!(OFF&4194304))  /* NEW status of every other lease is written before Initialized */
#define F_TWICE (!(OFF&8388608))  /* NEW processes listed before and after the total; by pid, the smaller figure */
#define F_UNINIT (!(OFF&2048))  /* NEW nothing is stopped before Initialized */
#define F_FLOOR (!(OFF&4096))  /* NEW turns continue above the object's resourceVersion, not only above those seen */
#define F_KEEP (!(OFF&8192))  /* NEW room made for a waiting member is kept for it */
#define F_SGRV (!(OFF&16384))  /* planted: SharedGroup PUT without resourceVersion */
#define F_LIST (!(OFF&32768))  /* planted: Stopped reported without an empty LIST */
#define F_LFIRST (!(OFF&65536))  /* NEW a lease's status says Expired before its Stopped */
#define F_LOLD (!(OFF&131072))  /* NEW only processes that came since the grant count against a lease */
#define F_LPROC (!(OFF&262144))  /* NEW these are its own when it leaves */
#define F_TEST (!(OFF&524288))  /* planted: gate opened without test of the Pod uid */
#define F_BLIND (!(OFF&16777216))  /* NEW without telemetry no memory is judged: no grant, no Freed; OFF reads what is not told as 0 */
#define F_DEVS (!(OFF&67108864))  /* NEW a grant is judged on every device; OFF: a holder of two counts on the first, and only that is looked at */
#define F_BACKS (!(OFF&134217728))  /* NEW Freed: memory is back on every device; OFF: on the one that its members share */
#define F_TPL (!(OFF&268435456))  /* NEW a changed template ends the turn: Stopped, Freed and another turn before the next Pod */
#define F_NEWT (!(OFF&536870912))  /* NEW a Pod of this turn with another template is deleted only by a start of the present template */
#define F_GIVEN (!(OFF&1073741824))  /* NEW a node is gone when it is given up, not when it is silent: then Pods are deleted by force, and memory counts as back */
#define F_AGAIN (!(OFF&33554432))  /* NEW the Model is read again between the GET of SharedGroup and the PUT of Releasing */
#define GRANTED 0
#define RELEASING 1
#define STOPPED 2
#define FREED 3
#define RAISE 4
#define TELL 5
#define LM (NM-1)               /* with LEASE=1 the last member is a GPULease */
#define NL (NM-LEASE)
#define GM 1                    /* the one that may outgrow its footprint */
/* API */
bit ex[NM]=1; bit del[NM]; bit fin[NM]; bit want[NM];
byte rdy[NM]; bit rturn[NM];             /* Ready: 0 nothing, 1 True, 2 False/Stopped; report carries the present turn */
bit bT[NM]; bit bP[NM];                  /* status.backend: names the present turn; names the present Pod */
byte st[NM]=FREED; byte os[NM]=FREED;    /* SharedGroup: step of the entry of the present uid, of a former uid */
bit begun=1; bit raised; bit ru[NM];
byte pod[NM]; bit pown[NM]; bit pturn[NM];
/* device */
bit proc[NM]; bit mem[NM]; byte gh[NM];  /* process runs; holds its memory; memory that its process left behind */
bit grown; bit gx; bit jg;               /* GM uses one more; that memory is still there; the last grant counted it */
bit fo; bit fok;                         /* a foreign process with 1; the last grant counted it */
byte lg; bit xp; bit lo; bit ls;         /* lease: its status says 1 Granted, 2 Expired; expired; a process of a former lease; started */
/* what an instance knows: still true? */
byte fM[NM]; byte fU[NM]; byte fP[NM]; byte fT[NM]; byte fL; byte fF; byte fG;
#if E_BLIND
bit blind;                               /* no sample of the device: the agent is silent, or the device is missing from it */
#else
#define blind 0
#endif
#if E_BACK
byte fD[NM];                             /* bit of an instance: the demand was there since its GET of SharedGroup */
#define NODEMAND(m) clr(fD,m)
#else
#define NODEMAND(m) skip
#endif
#if E_TPL
byte fN; bit pt=1;                       /* bit of an instance: it knows member 0's present template; member 0's Pod has that */
#define NOTE fN=fN|B(me)
#define FRESH(m) ((m)!=0 || ((fN>>me)&1))
#define STALE(m) ((m)==0 && !pt)
#define NEWPOD if :: m==0 -> pt=FRESH(0) :: else fi
#else
#define NOTE skip
#define FRESH(m) 1
#define STALE(m) 0
#define NEWPOD skip
#endif
#if E_NODE
bit silent; bit gone_;                   /* nothing is heard of the node, and it hears nothing; it was given up, and nothing runs there */
#define GIVEN (gone_ || (!F_GIVEN && silent))
#else
#define silent 0
#define gone_ 0
#define GIVEN 0
#endif
#if PAIR
byte ga;                                 /* member 0 has both devices, member 1 the second: what member 0 left behind on the first */
#endif
bit calm; bit rest;
#ifndef LOSSES
#define LOSSES 1
#endif
#if EV&2
byte nloss;
#endif
#define B(p) (1<<(p))
#define X(a,p,m) ((a[m]>>(p))&1)
#define Y(a,p) ((a>>(p))&1)
#define SET(a,p,m) a[m]=a[m]|B(p)
#if NM==2
#define UNSET(a,p) a[0]=a[0]&(255-B(p)); a[1]=a[1]&(255-B(p))
#define SUM(f) (f(0)+f(1))
#define ALL(f) (f(0)&&f(1))
#else
#define UNSET(a,p) a[0]=a[0]&(255-B(p)); a[1]=a[1]&(255-B(p)); a[2]=a[2]&(255-B(p))
#define SUM(f) (f(0)+f(1)+f(2))
#define ALL(f) (f(0)&&f(1)&&f(2))
#endif
#define clr(a,m) a[m]=0
#define keep(a,p,m) a[m]=a[m]&B(p)
byte q;
inline gone(m){ ex[m]=0; del[m]=0; fin[m]=0; want[m]=0; rdy[m]=0; rturn[m]=0; bT[m]=0; bP[m]=0; pown[m]=0; pturn[m]=0; ru[m]=0;
  clr(fM,m); clr(fU,m); clr(fT,m); NODEMAND(m);
  if :: st[m]!=FREED -> assert(os[m]==FREED); os[m]=st[m]; st[m]=FREED :: else fi }
inline nopod(m){ pod[m]=0; pown[m]=0; pturn[m]=0; bP[m]=0; clr(fP,m) }
inline delpod(m){ if :: pod[m]==1 -> nopod(m) :: else -> pod[m]=4 fi }
inline newturn(m){ rturn[m]=0; pturn[m]=0; bT[m]=0; clr(fT,m) }
/* memory */
#define EN(m) (S(m)+((m)==GM && raised))
#define ONB(m) (!PAIR || F_DEVS || (m)!=0)
#define H1(m) (ONB(m) -> (st[m]!=FREED -> EN(m) : 0)+(os[m]!=FREED -> S(m) : 0) : 0)
#define HELD SUM(H1)
#define U1(m) (mem[m]*S(m)+gh[m])
#if PAIR
#define FO 0                             /* a foreign process is on the first device then */
#define USEDA (mem[0]*S(0)+ga+fo)
#define CAPA (USEDA-(fo && !fok) <= CAP)
#define FITA(m) ((m)!=0 || ((st[0]!=FREED || os[0]!=FREED -> S(0) : 0)+S(0)+(USEDA-(st[0]!=FREED -> mem[0]*S(0) : 0))*SIGHT <= CAP))
#define FITB(m) (F_DEVS || (m)!=0)      /* OFF: of member 0 only the first device is looked at */
#define BACKA(m) ((m)!=0 || !F_BACKS || GIVEN || (JUDGED && (!SIGHT || ga==0)))
#define LEFTA(m) if :: m==0 -> ga=ga+mem[0]*S(0) :: else fi
#define GHOSTA ga
#else
#define FO fo
#define CAPA 1
#define FITA(m) 1
#define FITB(m) 1
#define BACKA(m) 1
#define LEFTA(m) skip
#define GHOSTA 0
#endif
#define USED (SUM(U1)+grown+FO+lo*S(LM))
#define K1(m) (st[m]!=FREED && ONB(m) -> mem[m]*S(m)+((m)==GM && grown && raised) : 0)
#define SEENH (SUM(K1)+(lo && os[LM]!=FREED -> S(LM) : 0))      /* what the holders' own processes are seen to hold, at most their entry */
#define LOLD(o) (F_LOLD || !LEASE || st[LM]==FREED -> (o) : (mem[LM]*S(LM)+(o) <= S(LM) -> 0 : mem[LM]*S(LM)+(o)-S(LM)))
#define OTH LOLD(F_OTHERS -> USED-SEENH : FO)
#define FITS(m) (JUDGED && (!FITB(m) || HELD+S(m)+OTH*SIGHT <= CAP) && FITA(m))
#define SIGHT (!blind && !silent)
#define JUDGED (SIGHT || !F_BLIND)       /* the sample counts */
#define G1(m) (gh[m]==0)
#define BACK(p,h) (GIVEN || !F_TELE || (JUDGED && (!SIGHT || (F_HELD -> ALL(G1) && !(p) : USED <= HELD-(h)+FO))))
#define LBACK(p) (!F_TELE || (JUDGED && (!SIGHT || (ALL(G1) && (!(p) || !F_LPROC)))))
#define CAPOK (USED-(FO && !fok)-(gx && !jg) <= CAP && CAPA)
/* policy: the higher number goes first */
#define ASKS(m) (ex[m] && !del[m] && want[m] && !GIVEN)
#define SZ(m) (st[m]!=FREED -> EN(m) : S(m))
#if NM==2
#define IN1 (ASKS(1) && SZ(1)+FO<=CAP)
#define IN0 (ASKS(0) && SZ(0)+(IN1->SZ(1):0)+FO<=CAP && SZ(0)+fo<=CAP)
#define IN(m) ((m)==1 -> IN1 : IN0)
#else
#define IN2 (ASKS(2) && SZ(2)+fo<=CAP)
#define IN1 (ASKS(1) && SZ(1)+(IN2->SZ(2):0)+fo<=CAP)
#define IN0 (ASKS(0) && SZ(0)+(IN2->SZ(2):0)+(IN1->SZ(1):0)+fo<=CAP)
#define IN(m) ((m)==2 -> IN2 : ((m)==1 -> IN1 : IN0))
#endif
#define W1(m) (IN(m) && st[m]==FREED && !FITS(m))
#if NM==2
#define SOMEWAITS (W1(0)||W1(1))
#else
#define SOMEWAITS (W1(0)||W1(1)||W1(2))
#endif
#define ISL(m) (LEASE && (m)==LM)
#define LEAVE(m) (!ASKS(m) || (!ISL(m) && (!calm || (!IN(m) && SOMEWAITS) || (F_ONE && bT[m] && rdy[m]==2))))
#define MAYHOLD(m) (st[m]==GRANTED)
#define MAYRUN(m) (ASKS(m) && MAYHOLD(m))
#define ASKED(m) (st[m]==RELEASING && !(rdy[m]==2 && rturn[m]))
#define OPEN(m)  (pod[m]>=2)
#define LIVE_(m) (OPEN(m) && pod[m]!=4)
#define FINE(m)  (pown[m] && (pturn[m] || !F_PTURN))
#define OURS(m)  (pod[m]!=0 && pown[m])
#define TODO(m)   ((OURS(m) && (pod[m]!=4 || GIVEN)) || (fin[m] && del[m]) || ASKED(m) || rdy[m]==1)
#define CRASH(f) (!calm || me!=f)
#define ON(f) (me==f || (!calm && !once))
#define F NARB
/* one turn of the loop: GET SharedGroup (and Model), a sample, then PUT with resourceVersion; may sleep between the two */
#define ARB(x) \
  :: ON(0) && begun && st[x]==FREED && ASKS(x) && ((SPLIT && !calm) || FITS(x)) && (!calm || !F_KEEP || IN(x)) -> m=x; nx=GRANTED \
  :: ON(0) && begun && st[x]==GRANTED && LEAVE(x) -> m=x; nx=RELEASING \
  :: ON(0) && begun && st[x]==RELEASING && (ISL(x) -> (lg==2 || (!F_LFIRST && lg!=1)) : rdy[x]==2 && rturn[x]) -> m=x; nx=STOPPED \
  :: ON(0) && begun && st[x]==STOPPED && (ISL(x) -> LBACK(mem[x]) : (SPLIT && !calm) || BACK(proc[x],EN(x)) && BACKA(x)) -> m=x; nx=FREED \
  :: ON(0) && begun && (os[x]==GRANTED || os[x]==RELEASING) -> m=x; o=1; nx=STOPPED \
  :: ON(0) && begun && os[x]==STOPPED && (ISL(x) -> LBACK(lo) : BACK(0,S(x)) && BACKA(x)) -> m=x; o=1; nx=FREED
#define LOOK(x) SET(fU,me,x); if :: OURS(x) && (F_GATED || OPEN(x)) -> if :: LIVE_(x) || !F_GREL -> a=a|(1<<(2*x)) :: else -> a=a|(2<<(2*x)) fi \
                   :: !OURS(x) && ISL(x) && lg==1 && F_ADOPT -> a=a|(1<<(2*x)) :: !OURS(x) && ISL(x) && lg!=1 && F_LBUMP -> clr(fM,x) :: else fi; \
                ru[x]=!(pturn[x] || bT[x] || rturn[x] || (ISL(x) && lg))
#define TAKE(x) if :: ((a>>(2*x))&3)!=0 && !X(fU,me,x) -> os[x]=RELEASING \
                   :: ((a>>(2*x))&3)==1 && X(fU,me,x) -> st[x]=GRANTED \
                   :: ((a>>(2*x))&3)==2 && X(fU,me,x) -> st[x]=RELEASING; if :: !pturn[x] && OURS(x) -> newturn(x) :: skip fi; pturn[x]=OURS(x) :: else fi
/* a process that came between the sample and the grant of a lease is the lease's: not asked here */
#define UNSURE (LEASE && E_FOR && nx==GRANTED && m==LM && fo && !Y(fF,me))
#if NM==2
#define PROCS (mem[0]|(mem[1]<<1)|(fo<<3))
#else
#define PROCS (mem[0]|(mem[1]<<1)|(mem[2]<<2)|(fo<<3))
#endif
#if E_BACK
#define RELEASED if :: nx==RELEASING && !o && r -> assert(!X(fD,me,m)) :: else fi; r=0    /* S8 */
#define UNASKED r=0; UNSET(fD,me);
#else
#define RELEASED skip
#define UNASKED
#endif
#define P1(m) (((s>>(m))&1)*S(m))
#define P2(m) (st[m]!=FREED -> P1(m) : 0)
proctype Arbiter(byte me){ byte m; byte nx; bit once; bit o; byte a;
#if E_BACK
  bit r;
#endif
#if SPLIT
  byte s; byte u;
#endif
top: atomic { m=0; nx=0; o=0; a=0 }
end: atomic { if
  ARB(0)
  ARB(1)
#if NM>2
  ARB(2)
#endif
  :: ON(0) && begun && E_GROW && grown && !raised && !blind && st[GM]!=FREED -> m=GM; nx=RAISE
  :: ON(0) && LEASE && ex[LM] && begun && st[LM]!=FREED && lg!=(st[LM]==GRANTED -> 1 : 2) -> m=LM; o=(st[LM]==GRANTED); nx=TELL; SET(fM,me,LM); once=(me!=0); goto tell
  :: ON(0) && E_LOSS && !begun -> if :: F_LOOK -> fL=fL|B(me) :: else fi; once=(me!=0); goto look
  fi; SET(fU,me,m); fL=fL|B(me); once=(me!=0); if :: fo -> fF=fF|B(me) :: else fi; if :: gx -> fG=fG|B(me) :: else fi
#if E_BACK
    ; r=(nx==RELEASING && !ASKS(m))
#endif
  }
#if E_BACK /* perform of Releasing: GET SharedGroup, GET Model, PUT */
  if :: nx==RELEASING && r && !o ->
    atomic { if :: st[m]==GRANTED && X(fU,me,m) -> fL=fL|B(me); if :: ASKS(m) -> SET(fD,me,m) :: else fi :: else -> goto out fi }
    atomic { if :: F_AGAIN && ASKS(m) -> goto out :: else fi }
     :: else fi;
#endif
#if SPLIT /* a sample is three calls: the processes with their memory, the total, the processes again; a process counts with the smaller figure */
  if :: (nx==GRANTED || nx==FREED) && !o && !ISL(m) ->
    atomic { s=PROCS; if :: fo -> fF=fF|B(me) :: else -> fF=fF&(255-B(me)) fi }
    atomic { u=USED; if :: F_TWICE :: !F_TWICE :: !F_TWICE -> s=15 fi }
    atomic { s=s&((F_TWICE || s==15) -> PROCS : 15); s=s&(Y(fF,me) -> 15 : 7);   /* the same process: by pid and start time */
      if :: (nx==FREED -> u<=SUM(P1)+((s>>3)&1) && !((s>>m)&1) : HELD+S(m)+u <= CAP+SUM(P2)) -> s=0; u=0 :: else -> s=0; u=0; goto out fi }
     :: else fi;
#endif
  atomic { if
  :: (Y(fL,me) || !F_SGRV) && !UNSURE ->
     fL=0;
     if :: nx==FREED -> assert((gh[m]==0 && (m!=0 || GHOSTA==0)) || (st[m]!=FREED && os[m]!=FREED)) :: else fi;                /* S5: never before the memory is back */
     RELEASED;
     if :: nx==STOPPED -> assert(o || !X(fU,me,m) || !(OPEN(m) && pown[m])) :: else fi;                   /* S7: never while its Pod may run */
#if E_NODE
     if :: nx==STOPPED -> assert(o || !X(fU,me,m) || !(pod[m]==0 && proc[m])) :: else fi;                   /* S9: never while its process runs */
#endif
     if :: nx==RAISE -> raised=1
        :: nx!=RAISE && (o || !X(fU,me,m)) -> os[m]=nx
        :: nx!=RAISE && !(o || !X(fU,me,m)) -> st[m]=nx;
           if :: nx==FREED && m==GM -> raised=0 :: else fi;
           if :: nx==GRANTED && ru[m] && !F_FLOOR :: nx==GRANTED -> newturn(m) :: nx!=GRANTED fi; if :: nx==GRANTED -> ru[m]=0 :: else fi
     fi;
     if :: nx==GRANTED -> fok=fok||(fo && Y(fF,me) && (!PAIR || m==0)); jg=jg||(gx && Y(fG,me)) :: else fi
  :: (!Y(fL,me) && F_SGRV) || UNSURE
  :: CRASH(0)
  fi;
out: UNASKED fL=fL&(255-B(me)); fF=fF&(255-B(me)); fG=fG&(255-B(me)); UNSET(fU,me); UNSET(fM,me); goto top }
tell: /* the lease's own status, with its resourceVersion */
  atomic { if :: X(fM,me,LM) -> lg=(o -> 1 : 2); keep(fM,me,LM) :: !X(fM,me,LM) :: CRASH(0) fi; goto out }
look: /* an object without a status: first look at Pods and Models, then PUT holders and Initialized */
  atomic { LOOK(0); LOOK(1);
#if NM>2
    LOOK(2);
#endif
  }
  if :: atomic { !F_LOOK -> if :: !begun -> fL=fL|B(me) :: else fi } :: F_LOOK fi;
  atomic { if
  :: Y(fL,me) -> fL=0; begun=1; TAKE(0); TAKE(1);
#if NM>2
    TAKE(2)
#endif
  :: !Y(fL,me)
  :: CRASH(0) fi; goto out }
}
#define LOST(m) (F_ONE && bT[m] && !bP[m])
#define START(m) (MAYRUN(m) && pod[m]!=4 && !(OPEN(m) && FINE(m)) && !LOST(m))
#define READY(m) (MAYRUN(m) && ((pod[m]==3 && FINE(m) && rdy[m]!=1) || (LOST(m) && pod[m]!=4 && rdy[m]!=2)))
/* the calls of a start; FINAL and POST go out side by side, so do the two of (2): either order (o) */
#define FINAL if :: X(fU,me,m) && !del[m] -> if :: !fin[m] -> fin[m]=1; clr(fM,m) :: else fi; SET(fM,me,m); c=F_ONE && bT[m] && X(fT,me,m) /* JSON patch, test on uid */ \
              :: !(X(fU,me,m) && !del[m]) :: CRASH(F) -> goto top fi
#define SAME (pown[m] && X(fU,me,m) && ((pturn[m] && X(fT,me,m)) || !F_PTURN) && FRESH(m)!=STALE(m))
#define POST  if :: pod[m]==0 -> pod[m]=1; pown[m]=X(fU,me,m); pturn[m]=X(fT,me,m); NEWPOD; SET(fP,me,m) \
              :: pod[m]!=0 && SAME -> SET(fP,me,m) :: pod[m]!=0 && !SAME -> SET(fP,me,m); goto other :: CRASH(F) -> goto top fi
#define GETM  if :: X(fU,me,m) && !del[m] && fin[m] :: else -> goto top fi
/* (2) on the Model's side: this turn's Pod is written into status.backend, with the resourceVersion that (1) returned */
#define CLAIM if :: c && bP[m] && X(fP,me,m) && FRESH(m) \
                 :: !c && X(fM,me,m) && fin[m] && !del[m] && !bT[m] && FRESH(m) -> bT[m]=X(fT,me,m); bP[m]=bT[m]&X(fP,me,m); rdy[m]=0; rturn[m]=0; keep(fM,me,m) \
                 :: !(c && bP[m] && X(fP,me,m) && FRESH(m)) && !(!c && X(fM,me,m) && fin[m] && !del[m] && !bT[m] && FRESH(m)) -> goto top :: CRASH(F) -> goto top fi
#if F_ONE
#define TWO CLAIM
#else
#define TWO GETM
#endif
#define GETL  if :: st[m]==GRANTED && (X(fT,me,m) || (!F_PTURN && X(fU,me,m))) :: else -> goto top fi
/* every atomic is one API call; it may sleep, or die, between any two */
#if E_TPL
#define RENEW(x,g) :: ON(F) && (g) && MAYRUN(x) && OURS(x) && LIVE_(x) && STALE(x) -> once=(me!=F); m=x; SET(fP,me,x); goto stop
#else
#define RENEW(x,g)
#endif
#define LAU(x,g) \
  :: ON(F) && (g) && START(x) -> once=(me!=F); m=x; SET(fU,me,x); SET(fT,me,x); NOTE; if :: o=0 :: o=1 fi; goto start \
  :: ON(F) && (g) && ex[x] && (begun || !F_UNINIT) && !MAYRUN(x) && TODO(x) -> once=(me!=F); m=x; if :: OURS(x) && F_SEEN -> SET(fP,me,x) :: else fi; goto stop \
  RENEW(x,g) \
  :: ON(F) && (g) && READY(x) -> once=(me!=F); m=x; SET(fU,me,x); SET(fT,me,x); goto ready
proctype Launcher(byte me){ byte m; bit once; bit o; bit rel; bit why; bit c;
top: atomic { m=0; o=0; rel=0; why=0; c=0; UNSET(fU,me); UNSET(fM,me); UNSET(fP,me); UNSET(fT,me) }
end: atomic { if
  LAU(0,1)
#if NL>1
  LAU(1,me==F)
#endif
#if NL>2
  LAU(2,me==F)
#endif
  fi }
ready: /* GET Model, SSA of Ready=True, or of False/Stopped without a turn when the Pod of this turn is lost */
  atomic { if :: X(fU,me,m) && (LOST(m) || pod[m]==3) -> SET(fM,me,m); o=LOST(m) :: else -> goto top fi }
  atomic { if :: X(fM,me,m) -> rdy[m]=1+o; rturn[m]=0; keep(fM,me,m) :: !X(fM,me,m) :: CRASH(F) fi; goto top }
start:
#if !F_ORDER
  atomic { FINAL }
  atomic { GETL }
  atomic { POST }
  atomic { TWO }
#else
  if :: atomic { !o -> FINAL } :: atomic { o -> POST } fi;
  if :: atomic { o -> FINAL } :: atomic { !o -> POST } fi;
  if :: atomic { !o -> TWO } :: atomic { o -> GETL } fi;
  if :: atomic { o -> TWO } :: atomic { !o -> GETL } fi;
#endif
  atomic { if
     :: pod[m]==1 && (X(fP,me,m) || !F_TEST) ->
        assert(pown[m] && ex[m] && X(fU,me,m));                             /* S4: not for a former uid */
        assert(!begun || (st[m]==GRANTED && pturn[m]) || st[m]==RELEASING);  /* S4: not without an entry */
        pod[m]=2
     :: !(pod[m]==1 && (X(fP,me,m) || !F_TEST))
     :: CRASH(F) fi; goto top }
other: /* AlreadyExists, but not ours, not this turn: DELETE that uid */
#if F_SEEN
  atomic { if :: X(fU,me,m) && !del[m] && (FRESH(m) || !F_NEWT) -> GETL :: else -> goto top fi }
#endif
  atomic { if :: X(fP,me,m) && pod[m]!=4 -> assert(!(LIVE_(m) && pown[m]) || STALE(m)); delpod(m) :: !(X(fP,me,m) && pod[m]!=4) :: CRASH(F) fi; goto top }
stop: /* GET Model and SharedGroup; DELETE by uid; LIST Pods by model-uid until empty; report; finalizer off */
  atomic { if :: ex[m] && (begun || !F_UNINIT) -> SET(fM,me,m); SET(fU,me,m); SET(fT,me,m);
                 rel=(st[m]==RELEASING || !F_TURN); why=(st[m]==RELEASING || del[m] || !want[m] || STALE(m) || GIVEN)
              :: else -> goto top fi;
       if :: MAYRUN(m) && !(STALE(m) && LIVE_(m)) -> goto top :: else fi }
dele:
  atomic { if :: X(fP,me,m) && pod[m]!=4 && !GIVEN -> assert(why || !(LIVE_(m) && pown[m])); delpod(m);    /* S6 */
                 if :: !F_TPL && MAYRUN(m) -> bT[m]=0; bP[m]=0 :: else fi
              :: X(fP,me,m) && pod[m]!=0 && GIVEN -> nopod(m)     /* by force: the object goes at once */
              :: !(X(fP,me,m) && pod[m]!=4 && !GIVEN) && !(X(fP,me,m) && pod[m]!=0 && GIVEN) :: CRASH(F) -> goto top fi }
list:
  atomic { if :: X(fU,me,m) && (!OURS(m) || (!F_LIST && pod[m]==4))
              :: X(fU,me,m) && OURS(m) && pod[m]!=4 ->
                 if :: F_SEEN -> goto top :: !F_SEEN -> SET(fP,me,m); goto dele fi
              :: GIVEN && OURS(m) && pod[m]==4 -> goto top                               /* the wait has an end: decided again, by force */
              :: !X(fU,me,m) || MAYRUN(m) -> goto top :: CRASH(F) -> goto top fi }
  atomic { if :: X(fM,me,m) -> if :: rdy[m]==2 && rturn[m]==(rel&X(fT,me,m)) :: else -> rdy[m]=2; rturn[m]=rel&X(fT,me,m); keep(fM,me,m) fi
              :: !X(fM,me,m) && X(fU,me,m) && !MAYRUN(m) -> SET(fM,me,m); goto again     /* 409: one GET, the same patch */
              :: !X(fM,me,m) -> goto top :: CRASH(F) -> goto top fi }
  atomic { if :: (F_FINRV -> X(fM,me,m) : X(fU,me,m)) && fin[m] && del[m] -> fin[m]=0; gone(m)
              :: !((F_FINRV -> X(fM,me,m) : X(fU,me,m)) && fin[m] && del[m])
              :: CRASH(F) fi; goto top }
again:
  atomic { if :: X(fM,me,m) -> rdy[m]=2; rturn[m]=rel&X(fT,me,m); keep(fM,me,m) :: !X(fM,me,m) :: CRASH(F) fi; goto top }
}
#if E_NODE
/* a process without a Pod is ended by a node that is heard again; Pods of a former uid on a node that was given up are collected by force */
#define FORGOTTEN(m) :: atomic { pod[m]==0 && proc[m] && !silent -> LEFTA(m); gh[m]=gh[m]+mem[m]*S(m); mem[m]=0; proc[m]=0 } \
                :: atomic { pod[m]==4 && !pown[m] && gone_ -> nopod(m) }
#else
#define FORGOTTEN(m)
#endif
#define GC(m)   :: atomic { pod[m]!=0 && pod[m]!=4 && !pown[m] -> delpod(m) } /* owner gone */
#define NODE(m) FORGOTTEN(m) \
                :: atomic { pod[m]==2 && !silent -> assert(!proc[m]); proc[m]=1; pod[m]=3; if :: !E_LATE -> mem[m]=1; assert(CAPOK) :: else fi } \
                :: atomic { E_LATE && proc[m] && pod[m]==3 && !mem[m] -> mem[m]=1; assert(CAPOK) } \
                :: atomic { pod[m]==4 && !silent -> LEFTA(m); gh[m]=gh[m]+mem[m]*(S(m)+(m==GM && grown)); mem[m]=0; proc[m]=0; if :: m==GM -> grown=0 :: else fi; nopod(m) } \
                :: atomic { gh[m]>0 -> gh[m]=0; if :: m==GM -> gx=0; jg=0; fG=0 :: else fi }
proctype World(){
end: do
  GC(0) NODE(0)
#if PAIR
  :: atomic { ga>0 -> ga=0 }
#endif
#if E_NODE
  :: atomic { calm && silent && !gone_ -> silent=0 }   /* the one wait without a deadline: here it ends */
#endif
#if NL>1
  GC(1) NODE(1)
#endif
#if NL>2
  GC(2) NODE(2)
#endif
#if LEASE
  :: atomic { ex[LM] && lg==1 && !ls && !calm -> mem[LM]=1; ls=1; assert(CAPOK) }   /* the person reads the lease's status only */
  :: atomic { mem[LM] && (!calm || lg!=1) -> mem[LM]=0; gh[LM]=gh[LM]+S(LM) }
  :: atomic { lo -> lo=0 }
  :: atomic { gh[LM]>0 -> gh[LM]=0 }
#endif
  od }
#if PAIR
#define NOGHOST ga=0
#else
#define NOGHOST skip
#endif
#define SERVED(m) (ISL(m) -> lg==1 && st[m]==GRANTED : rdy[m]==1 && proc[m] && MAYHOLD(m) && !STALE(m))
#define GOOD(m) (!del[m] && (SERVED(m) || (!IN(m) && st[m]==FREED && pod[m]==0 && rdy[m]!=1)) && os[m]==FREED && gh[m]==0 && GHOSTA==0)
#ifndef GOAL
#define STILL(m) (!del[m] && (SERVED(m) || (pod[m]==0 && rdy[m]!=1 && (st[m]==FREED || st[m]==STOPPED))) && (os[m]==FREED || os[m]==STOPPED))
#define GOAL (begun && (blind -> ALL(STILL) : ALL(GOOD)))
#endif
init { atomic { for (q : 1 .. NM-1) { want[q]=(IDLE!=1) } want[0]=(IDLE==3);
  for (q : 0 .. NARB-1) { run Arbiter(q) }
  for (q : NARB .. NP-1) { run Launcher(q) } q=0; run World() }
  do
  :: atomic { IDLE<2 && ex[0] && !del[0] -> want[0]=1-want[0]; clr(fM,0); NODEMAND(0) }
  :: atomic { E_B && ex[1] && !ISL(1) -> want[1]=1-want[1]; clr(fM,1); NODEMAND(1) }
  :: atomic { E_DEL && ex[0] && !del[0] && os[0]==FREED -> del[0]=1; clr(fM,0); NODEMAND(0); if :: !fin[0] -> gone(0) :: else fi }
  :: atomic { !ex[0] -> ex[0]=1 }
  :: atomic { E_KILL && pod[0]!=0 && pod[0]!=4 -> delpod(0) }
#if EV&2
  :: atomic { begun && nloss<LOSSES -> nloss++; begun=0; fL=0; raised=0; for (q : 0 .. NM-1) { st[q]=FREED; os[q]=FREED; ru[q]=0 } q=0 }
#endif
#if EV&32
  :: atomic { !fo && USED<CAP && !(LEASE && (st[LM]!=FREED || os[LM]!=FREED)) -> fo=1; fok=0 }
  :: atomic { fo -> fo=0; fok=0; fF=0 }
#endif
#if E_BLIND
  :: atomic { blind=1-blind }
#endif
#if E_TPL
  :: atomic { ex[0] && !del[0] -> pt=0; fN=0; clr(fM,0) }
#endif
#if E_NODE
  :: atomic { !silent -> silent=1 }
  :: atomic { silent && !gone_ -> silent=0 }
  :: atomic { silent && !gone_ -> gone_=1; for (q : 0 .. NM-1) { proc[q]=0; mem[q]=0; gh[q]=0 } q=0; NOGHOST }
  :: atomic { gone_ -> gone_=0; silent=0; for (q : 0 .. NM-1) { if :: pod[q]==3 -> pod[q]=4 :: else fi } q=0 }   /* a Pod without its process has failed */
#endif
#if EV&64
  :: atomic { mem[GM] && !grown && !gx -> grown=1; gx=1; jg=0 }
#endif
#if LEASE
  :: atomic { ex[LM] && !xp -> xp=1; want[LM]=0; NODEMAND(LM) }
  :: atomic { ex[LM] && os[LM]==FREED && !lo -> lo=mem[LM]; mem[LM]=0; lg=0; xp=0; ls=0; gone(LM) }
  :: atomic { !ex[LM] -> ex[LM]=1; want[LM]=1 }
#endif
  :: calm=1 -> break
  od;
  do :: timeout -> atomic { assert(GOAL); rest=1 }; break od
}
#if LIVE
never { do :: !calm :: calm -> break od; accept: do :: !rest od }   /* no run continues always after the last fault */
#endif
