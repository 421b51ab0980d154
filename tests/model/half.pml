/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * tests/model/half.pml - a session of which two devices have one half each, for the model checker Spin
 *
 *	client --> switch --> A --copies, relayed--> B
 *	client <-- A or B        A <--acknowledged--> B
 *	                         A <------scp------> B
 *
 * What is modelled: one half handoff from A to B, of either kind, with the states of both ends (common/tch_machine.c), what is done in them
 * (common/tch.c), and what the node programs do with packets and acknowledgments (common/bpf_half.h). Requests are numbered, and
 * their answers with them: a device runs a request when it has received all up to it, and the client has answers up to a number.
 *
 * What is assumed:
 *	- Each packet, copy and acknowledgment may be lost, and the client sends again what was not acknowledged. What is parked while the flow
 *	  is held is as good as lost: tests/model/handoff.pml has it.
 *	- What a device says to the client reaches it at once, or was not said.
 *	- A session between devices (SCP) is as there: in order, and when it breaks both ends hear of it before anything else.
 *	- A timer of a handoff fires when it waits in vain. That it fires earlier is one of the FAULTS.
 *	- The entry that a dropped half leaves behind stays until A copies no more.
 *
 * What is left out: windows, time stamps, a client that closes (tests/simulation has it), daemons that die.
 *
 * What is promised is marked [1] to [5]. tests/model/check_handoff runs this with:
 *	PACKETS		how many requests
 *	FAULTS		how many in all: the session breaks, B can't restore, a timer fires
 *	WRONG		a protocol with a known mistake, which Spin has to find
 */
#ifndef PACKETS
#define PACKETS 3
#endif
#ifndef FAULTS
#define FAULTS 0
#endif
#ifndef WRONG
#define WRONG 0
#endif

#define ACKNOWLEDGE_OWN 1     /* who speaks acknowledges what it has itself */
#define COMPLETE_UNDRAINED 2  /* A falls silent before the client has its answers */
#define SPEAK_AT_ONCE 3	      /* B speaks from its first Acknowledgment, though A still does */
#define SPEAK_ON 4	      /* A does not fall silent before Complete */
#define RECLAIM_COMPLETED 5   /* A speaks again though B may have heard Complete */
#define RECLAIM_FROM_SPEAKER 6 /* ... though B has spoken */
#define FORGET_DROPPED 7      /* B's entry goes with its socket */
#define RUN_ON 8	      /* A reads requests while B does */

#define A 0
#define B 1

mtype:message = { Handoff, Complete, Acknowledgment, AcknowledgmentOfComplete, Fail };
mtype:state = { ACTIVE, WAIT, HALF, COMPLETING, OVER };
mtype:entry = { NONE, HOLD, SENDS, RECEIVES, RELAY };

bool to_client; /* the kind: B sends; else it receives */
mtype:state state[2] = ACTIVE;

/* Each device's kernel and its server. */
bool live[2], serves[2];
mtype:entry entry[2] = NONE;
byte received[2];
byte heard[2]; /* what the other one says it has */
byte ran[2];

/* What Handoff carries. */
byte carried_received, carried_ran;

chan packets[2] = [1] of { byte }; /* from the switch */
chan copies = [2] of { byte };	   /* from A to B */
chan acks[2] = [1] of { byte };	   /* to each from the other */
chan scp[2] = [2] of { mtype:message };
bool lost[2];

/* The switch and the client. */
bool is_switched, is_reset;
byte acknowledged, answers; /* that the client has */

byte executed;
bool was_silent[PACKETS + 1]; /* who ran the request did not speak */

byte faults;
hidden byte packet, said;

#define other(d) (1 - (d))
#define speaks(d) (live[d] && (entry[d] == NONE || entry[d] == SENDS))
#define may_fail (faults < FAULTS)
#define is_whole(d) (entry[d] == NONE)

inline say(to, what)
{
	if
	:: !lost[A] && !lost[B] -> scp[to]!what
	:: else -> skip
	fi
}

/* Packets */

inline to_stack(d)
{
	if
	:: live[d] && packet == received[d] + 1 -> received[d] = packet
	:: live[d] && packet != received[d] + 1 -> skip
	:: !live[d] && entry[d] == RECEIVES -> skip /* what the stack answers is not heard */
	:: !live[d] && entry[d] != RECEIVES ->
		assert(is_reset || !speaks(other(d))); /* [1] nobody resets what another device serves */
		is_reset = true
	fi
}

inline copy()
{
	if
	:: nfull(copies) -> copies!packet
	:: skip /* lost */
	fi
}

inline node_ingress(d)
{
	if
	:: entry[d] == HOLD -> skip
	:: entry[d] == RELAY -> copy()
	:: d == A && (entry[d] == SENDS || entry[d] == RECEIVES) -> copy(); to_stack(d)
	:: entry[d] == NONE || (d == B && (entry[d] == SENDS || entry[d] == RECEIVES)) -> to_stack(d)
	fi
}

inline hear_acknowledged(d)
{
	acks[d]?said;
	if
	:: (entry[d] == SENDS || entry[d] == RECEIVES) && said > heard[d] -> heard[d] = said
	:: else -> skip
	fi
}

#define common(d) \
	((entry[d] == SENDS && WRONG != ACKNOWLEDGE_OWN && heard[d] < received[d]) -> heard[d] : received[d])
#define has_news(d) (common(d) > acknowledged || ran[d] > answers)

/* [2] What the client need not send again, and what it has for an answer, nobody else has to have. */
inline tell_client(d)
{
	assert(received[d] >= acknowledged);
	if
	:: common(d) > acknowledged -> acknowledged = common(d)
	:: else -> skip
	fi;
	if
	:: ran[d] > answers -> answers = ran[d]
	:: else -> skip
	fi
}

/*
 * [3] A request runs once; again only if its answer is with nobody who speaks, nor with the client, and the owner of the files remembers
 * it.
 */
inline carry_out(d)
{
	ran[d]++;
	if
	:: ran[d] > executed ->
		executed = ran[d];
		was_silent[executed] = entry[d] == RECEIVES
	:: else -> assert(entry[d] == RECEIVES || (was_silent[ran[d]] && answers < ran[d]))
	fi
}

/* The first device */

inline freeze()
{
	state[A] = WAIT;
	live[A] = false;
	serves[A] = false;
	entry[A] = HOLD;
	carried_received = received[A];
	carried_ran = ran[A];
	say(B, Handoff)
}

inline share()
{
	state[A] = HALF;
	live[A] = true;
	heard[A] = carried_received;
	serves[A] = WRONG == RUN_ON && !to_client;
	entry[A] = (to_client -> RECEIVES : SENDS)
}

inline complete()
{
	state[A] = COMPLETING;
	if
	:: WRONG == SPEAK_ON -> skip
	:: else -> entry[A] = RELAY
	fi;
	say(B, Complete)
}

inline commit()
{
	state[A] = OVER;
	live[A] = false;
	entry[A] = RELAY
}

/* From the hold, or from what is shared. */
inline go_on()
{
	state[A] = OVER;
	live[A] = true;
	entry[A] = NONE;
	serves[A] = true
}

inline reset(d)
{
	state[d] = OVER;
	live[d] = false;
	serves[d] = false;
	entry[d] = NONE;
	is_reset = true
}

/* B is lost, or takes too long: what it may have done decides. */
inline give_up()
{
	say(B, Fail);
	if
	:: (to_client && WRONG != RECLAIM_FROM_SPEAKER) || (state[A] == COMPLETING && WRONG != RECLAIM_COMPLETED) -> reset(A)
	:: else -> go_on()
	fi
}

#define is_drained (answers >= ran[A] || WRONG == COMPLETE_UNDRAINED)
#define is_giving (state[A] == WAIT || state[A] == HALF || state[A] == COMPLETING)
#define is_quiet (!lost[A] && !lost[B] && empty(scp[A]) && empty(scp[B]))
#define waits_in_vain (is_giving && is_quiet && (state[A] != HALF || state[B] == OVER))

inline first_hears()
{
	if
	:: scp[A]?Acknowledgment ->
		if
		:: state[A] == WAIT -> share()
		:: else -> skip
		fi
	:: scp[A]?AcknowledgmentOfComplete ->
		if
		:: state[A] == COMPLETING -> commit()
		:: else -> skip
		fi
	:: scp[A]?Fail ->
		if
		:: state[A] == WAIT || (is_giving && !to_client) -> go_on()
		:: (state[A] == HALF || state[A] == COMPLETING) && to_client -> commit()
		:: else -> skip
		fi
	fi
}

/* The second device */

inline restore()
{
	state[B] = HALF;
	live[B] = true;
	serves[B] = true;
	received[B] = carried_received;
	heard[B] = carried_received;
	ran[B] = carried_ran;
	entry[B] = ((to_client || WRONG == SPEAK_AT_ONCE) -> SENDS : RECEIVES);
	say(A, Acknowledgment)
}

/* [4] What A has not sent, B does not have. */
inline take_over()
{
	assert(is_reset || to_client || answers >= carried_ran);
	state[B] = WAIT;
	entry[B] = NONE;
	say(A, AcknowledgmentOfComplete)
}

inline drop()
{
	state[B] = OVER;
	live[B] = false;
	serves[B] = false;
	if
	:: WRONG == FORGET_DROPPED -> entry[B] = NONE
	:: else -> skip
	fi
}

inline end_half()
{
	if
	:: to_client -> reset(B)
	:: else -> drop()
	fi
}

inline second_hears()
{
	if
	:: scp[B]?Handoff ->
		if
		:: state[B] == ACTIVE -> restore()
		:: state[B] == ACTIVE && may_fail -> faults++; state[B] = OVER; say(A, Fail)
		:: else -> skip
		fi
	:: scp[B]?Complete ->
		if
		:: state[B] == HALF -> take_over()
		:: else -> skip
		fi
	:: scp[B]?Fail ->
		if
		:: state[B] == HALF -> end_half()
		:: state[B] == WAIT -> reset(B)
		:: else -> state[B] = OVER
		fi
	fi
}

/* What happens */

inline fall_silent(d)
{
	do
	:: len(scp[d]) > 0 -> scp[d]?_
	:: len(scp[d]) == 0 -> break
	od
}

proctype Network()
{
end:	do
	:: atomic { packets[A]?packet -> node_ingress(A) }
	:: atomic { packets[B]?packet -> node_ingress(B) }
	:: atomic { copies?packet -> node_ingress(B) }
	:: atomic { nempty(acks[A]) -> hear_acknowledged(A) }
	:: atomic { nempty(acks[B]) -> hear_acknowledged(B) }
	/* The switch hears of the new owner some time after the commit point. */
	:: atomic { !is_switched && state[A] == OVER && entry[A] == RELAY -> is_switched = true }
	:: atomic { entry[A] == RELAY && is_switched && empty(packets[A]) -> entry[A] = NONE }
	:: atomic { entry[B] == RECEIVES && !live[B] && state[A] == OVER && empty(copies) -> entry[B] = NONE }
	od
}

proctype Device(byte d)
{
end:	do
	:: atomic { speaks(d) && !is_reset && has_news(d) -> tell_client(d) }
	:: atomic { live[d] && entry[d] == RECEIVES && received[d] > heard[other(d)] && empty(acks[other(d)]) ->
			acks[other(d)]!received[d] }
	:: atomic { serves[d] && live[d] && ran[d] < received[d] -> carry_out(d) }
	od
}

proctype First()
{
end:	do
	:: atomic { state[A] == ACTIVE && !is_reset -> freeze() }
	:: atomic { !lost[A] && nempty(scp[A]) -> first_hears() }
	:: atomic { state[A] == HALF && is_drained -> complete() }
	:: atomic { waits_in_vain -> give_up() }
	:: atomic { is_giving && may_fail -> faults++;
			if
			:: state[A] == HALF && to_client -> complete()
			:: else -> give_up()
			fi }
	:: atomic { lost[A] -> lost[A] = false;
			if
			:: is_giving -> give_up()
			:: else -> skip
			fi }
	od
}

proctype Second()
{
end:	do
	:: atomic { !lost[B] && nempty(scp[B]) -> second_hears() }
	:: atomic { state[B] == HALF && may_fail -> faults++; end_half() }
	:: atomic { lost[B] -> lost[B] = false;
			if
			:: state[B] == HALF -> end_half()
			:: else -> skip
			fi }
	:: atomic { may_fail && !lost[A] && !lost[B] -> faults++;
			fall_silent(A);
			fall_silent(B);
			lost[A] = true;
			lost[B] = true }
	od
}

#define owner (is_switched -> B : A)

/* [5] If nobody fails, the client has all its answers, from whoever; a stop before that is an end that Spin does not accept. */
proctype Client()
{
	do
	:: atomic { !is_reset && acknowledged < PACKETS && empty(packets[owner]) -> packets[owner]!acknowledged + 1 }
	:: atomic { !is_reset && acknowledged + 1 < PACKETS && empty(packets[owner]) -> packets[owner]!acknowledged + 2 }
	:: is_reset || answers == PACKETS -> break
	od;
	assert(FAULTS > 0 || !is_reset)
}

proctype Safety()
{
end:	do
	:: atomic { speaks(A) && speaks(B) && !is_reset -> assert(false) } /* [1] */
	od
}

init {
	atomic {
		if
		:: WRONG != RECLAIM_FROM_SPEAKER -> to_client = false /* it is a mistake of the other kind */
		:: to_client = true
		fi;
		live[A] = true;
		serves[A] = true;
		run Network();
		run Device(A);
		run Device(B);
		run First();
		run Second();
		run Client();
		run Safety()
	}
}
