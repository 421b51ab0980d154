/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * tests/model/handoff.pml - one session that is handed from device to device, for the model checker Spin
 *
 *	client --> switch --direct--> device --relayed--> device
 *	             ^                  |  <------scp------>
 *	             +-asked, answered--+
 *
 * What is modelled: the states of a handoff at both ends (common/tch_machine.c), what is done in them (common/tch.c), the node
 * program's entry of the flow and its parked packets (common/node.bpf.c), the switch's entry and the order of its changes
 * (master/fabric.bpf.c, sessions_moved() in master/sessions.c). Each device may hand off what it owns, to any other, as soon
 * as common/tch.c lets it. Packets come in while a device writes parked ones back, and between a restored socket
 * and its entry.
 *
 * What is assumed:
 *	- A link keeps packets in order. What two devices say may overtake them.
 *	- A session between devices (SCP) keeps messages in order, loses none and repeats none until it breaks; then what is on its
 *	  way is lost, and each end hears of it before it says or hears anything else.
 *	- A timer of a handoff fires when nothing is on its way that would stop it. That it fires earlier, because the network or
 *	  a device is slow, is one of the FAULTS.
 *	- The grace time of a relayed flow, and the time of ORDER, are longer than a packet is on its way, with its detours; and unless
 *	  something fails, the switch changes its entry within the time of ORDER. A packet that the second device does not wait for any
 *	  longer (20 ms) is as good as lost: TCP's business, and among the FAULTS.
 *	- The client sends packets 1 to PACKETS whenever it likes, each once. When a device has reset the connection, the client
 *	  answers what still comes from another one with RST.
 *	- A daemon that dies does so with its sockets: live ones reset the client's connection, frozen ones end without a word. It
 *	  starts again at once, lets go what it held (some seconds later, which makes no difference here) and still relays what it relayed.
 *
 * Where it is kinder than the code: a session that has just arrived is not frozen while an early packet waits for its turn (ORDER).
 * common/tch.c looks for that when a handoff begins, not again when it freezes, two messages later; then the packet that
 * waited is lost, and the client sends it again (FREEZE_AT_GAP shows how). With FAULTS the model does so, too.
 *
 *	- An announcement to the switch is there before the second device can speak: it is sent before Open, two messages earlier.
 *
 * What is left out: bytes and several flows (tests/simulation has them), a client that closes or opens its port anew, a switch whose
 * own device takes part, a switch that is away for ever; what devices say to the client, but for whether the switch lets it pass
 * (docs/protocol.md, Fencing).
 *
 * What is promised is marked [1] to [6]. tests/model/check_handoff runs this with:
 *	HANDOFFS	how many, 2 or 3
 *	PACKETS		how many
 *	FAULTS		how many in all: a session between devices breaks, a question to the switch is lost, a timer fires early, a
 *			device can't freeze or restore, a daemon dies
 *	WRONG		a protocol with a known mistake, which Spin has to find
 */
#ifndef HANDOFFS
#define HANDOFFS 2
#endif
#ifndef PACKETS
#define PACKETS 3
#endif
#ifndef FAULTS
#define FAULTS 0
#endif
#ifndef WRONG
#define WRONG 0
#endif

#define FREEZE_AT_GAP 1	    /* the first device freezes while an early packet waits for its turn */
#define SWITCH_FIRST 2	    /* the switch is told before the second device has acknowledged */
#define UNFREEZE_IN_WAIT 3  /* no Acknowledgment in time: the first device goes on itself */
#define NO_ORDER 4	    /* the second device takes packets as they come */
#define ANY_ANSWER 6	    /* the switch's answer to an earlier question is taken for one to a later */
#define WAIT_FOR_DONE 7	    /* the second device waits for Done, though the first one is lost */
#define STAY_FROZEN 8	    /* Fail in WAIT: the first device does not un-freeze */
#define OBEY_OLDER 9	    /* the switch obeys an older question after a newer one */
#define NO_ANNOUNCEMENT 11  /* the switch is not told who may speak soon */
#define ANNOUNCE_EARLY 12   /* ... and only when a session arrives, before the switch has heard that it did */
#define KEEP_RELAYING 10    /* a flow that came back is still asked for, and forgotten after its grace time */

#define DEVICES 3
#define PAIR(from, to) ((from) * DEVICES + (to))

mtype:message = { Open, OpenResponse, HandoffComplete, Acknowledgment, Done, Fail };
mtype:state = { IDLE, OPEN, ACTIVE, WAIT, DONE, OVER }; /* OVER: forgotten, what is said of it finds nobody */
mtype:entry = { NONE, HOLD, RELAY, ORDER };
mtype:socket = { CLOSED, LIVE, FROZEN };
mtype:call = { NOTHING, TO_RELAY, TO_STACK, TO_ORDER };

/* Each device's kernel: the socket, the node program's entry, packets that are parked. */
mtype:socket socket[DEVICES] = CLOSED;
mtype:entry entry[DEVICES] = NONE;
byte way[DEVICES];	/* RELAY: the new owner */
byte received[DEVICES]; /* the last packet that the socket has */
chan parked[DEVICES] = [PACKETS] of { byte };

/* Each device's daemon: in the middle of which call it is, and for which handoff; how often the session has moved. */
mtype:call call[DEVICES] = NOTHING;
byte calls_for[DEVICES];
byte moves[DEVICES];

/* Handoffs, in the order in which they begin, with what Handoff and Complete carries. */
byte begun;
byte first[HANDOFFS], second[HANDOFFS];
mtype:state first_state[HANDOFFS] = IDLE, second_state[HANDOFFS] = IDLE;
byte carried_received[HANDOFFS], carried_moves[HANDOFFS];

/* What the first device still relays and asks the switch for (struct relayed_flow). */
bool relays[HANDOFFS], confirmed[HANDOFFS];

/* The network. lost[PAIR(a, b)]: a has still to hear that its session with b has broken. */
chan direct[DEVICES] = [PACKETS] of { byte };
chan relayed[DEVICES * DEVICES] = [PACKETS] of { byte };
chan scp[DEVICES * DEVICES] = [3 * HANDOFFS] of { mtype:message, byte };
chan asked[DEVICES] = [2 * HANDOFFS] of { byte };
chan answered[DEVICES] = [2 * HANDOFFS] of { byte };
bool lost[DEVICES * DEVICES];

/* The switch and the client. */
byte owner, known_moves;
bool former[DEVICES]; /* had the flow, and has nothing to say in it any more */
byte sent;
bool is_reset; /* the client has seen the end of the connection, or will when it sends */

byte faults;
bool has_crashed;

/* Used within one step. */
hidden byte h, k, packet;
hidden mtype:message kind;

#define calm (FAULTS == 0)
#define may_fail (faults < FAULTS)
#define is_free(d) (call[d] == NOTHING)

inline say(from, to, what, handoff)
{
	if
	:: !lost[PAIR(from, to)] && !lost[PAIR(to, from)] -> scp[PAIR(from, to)]!what, handoff
	:: else -> skip
	fi
}

/* Packets */

/* [1] If nobody fails, each packet reaches the owner, once and in order, and none is answered with RST. */
inline to_stack(d)
{
	assert(!calm || (socket[d] == LIVE && packet == received[d] + 1));
	if
	:: socket[d] == LIVE && packet == received[d] + 1 -> received[d] = packet
	:: socket[d] == LIVE && packet != received[d] + 1 -> skip /* TCP sees to that */
	:: socket[d] != LIVE -> is_reset = true
	fi
}

inline node_ingress(d)
{
	if
	:: entry[d] == HOLD -> parked[d]!packet
	:: entry[d] == ORDER && len(parked[d]) == 0 && packet == received[d] + 1 -> to_stack(d)
	:: entry[d] == ORDER && (len(parked[d]) > 0 || packet != received[d] + 1) -> parked[d]!!packet
	:: entry[d] == RELAY -> relayed[PAIR(d, way[d])]!packet
	:: entry[d] == NONE -> to_stack(d)
	fi
}

/* common/packet_orders.c: what has been waited for is here; or it is lost, and is not waited for any longer. */
#define is_first_next(d) (parked[d]?[eval(received[d] + 1)])

inline let_first_in(d)
{
	parked[d]?packet;
	to_stack(d)
}

inline change_entry(d)
{
	if
	:: call[d] == TO_RELAY -> entry[d] = RELAY; way[d] = second[calls_for[d]]
	:: else -> entry[d] = NONE
	fi
}

/* The last parked packet changes the entry. */
inline node_park(d)
{
	parked[d]?packet;
	if
	:: call[d] == TO_RELAY -> relayed[PAIR(d, second[calls_for[d]])]!packet
	:: else -> to_stack(d)
	fi;
	if
	:: len(parked[d]) == 0 -> change_entry(d)
	:: len(parked[d]) > 0 -> skip
	fi
}

inline discard_parked(d)
{
	do
	:: len(parked[d]) > 0 -> parked[d]?_
	:: len(parked[d]) == 0 -> break
	od
}

/* end_hold(): is waited for in Daemon(), while Kernel() goes on. */
inline end_hold(d, handoff, what)
{
	assert(is_free(d));
	call[d] = what;
	calls_for[d] = handoff;
	if
	:: len(parked[d]) == 0 -> change_entry(d)
	:: else -> skip
	fi
}

/* The first device */

inline cancel_relaying(d)
{
	for (k : 0 .. HANDOFFS - 1) {
		if
		:: relays[k] && first[k] == d && WRONG != KEEP_RELAYING -> relays[k] = false
		:: else -> skip
		fi
	}
}

#define is_giving(handoff, d) \
	(first[handoff] == d && \
	 (first_state[handoff] == OPEN || first_state[handoff] == ACTIVE || first_state[handoff] == WAIT))
#define is_arriving(handoff, d) (second[handoff] == d && second_state[handoff] == WAIT)
#define is_settled(handoff, d) (!is_giving(handoff, d) && !is_arriving(handoff, d))
#define may_begin(d) \
	(is_free(d) && len(parked[d]) == 0 && socket[d] == LIVE && !is_reset && is_settled(0, d) && is_settled(1, d) && \
	 is_settled(HANDOFFS - 1, d))

/* Only of the owner; of any other device it is refused. */
inline announce(d, to)
{
	if
	:: owner == d -> former[to] = false
	:: else -> skip
	fi
}

inline begin(d, to)
{
	if
	:: WRONG == NO_ANNOUNCEMENT || WRONG == ANNOUNCE_EARLY -> skip
	:: else -> announce(d, to)
	fi;
	first[begun] = d;
	second[begun] = to;
	first_state[begun] = OPEN;
	say(d, to, Open, begun);
	begun++
}

inline freeze(d, handoff)
{
	cancel_relaying(d);
	do /* packet_orders_end() */
	:: len(parked[d]) > 0 -> let_first_in(d)
	:: len(parked[d]) == 0 -> break
	od;
	entry[d] = HOLD;
	socket[d] = FROZEN;
	first_state[handoff] = WAIT;
	carried_received[handoff] = received[d];
	carried_moves[handoff] = moves[d] + 1;
	say(d, second[handoff], HandoffComplete, handoff);
	if
	:: WRONG == SWITCH_FIRST -> asked[d]!handoff
	:: else -> skip
	fi
}

/* The commit point. */
inline commit(d, handoff)
{
	first_state[handoff] = OVER;
	end_hold(d, handoff, TO_RELAY)
}

/* The last parked packet has gone to the new owner. */
inline committed(d, handoff)
{
	change_entry(d);
	call[d] = NOTHING;
	socket[d] = CLOSED;
	relays[handoff] = true;
	if
	:: WRONG == SWITCH_FIRST -> skip
	:: else -> asked[d]!handoff
	fi
}

inline unfreeze(d, handoff)
{
	first_state[handoff] = OVER;
	if
	:: WRONG == STAY_FROZEN -> skip
	:: else -> socket[d] = LIVE; end_hold(d, handoff, TO_STACK)
	fi
}

inline give_up(d, handoff)
{
	first_state[handoff] = OVER;
	say(d, second[handoff], Fail, handoff)
}

/* The second device may have spoken, or not. */
inline give_up_waiting(d, handoff)
{
	give_up(d, handoff);
	if
	:: WRONG == UNFREEZE_IN_WAIT -> unfreeze(d, handoff)
	:: else ->
		socket[d] = CLOSED;
		entry[d] = NONE;
		discard_parked(d);
		is_reset = true
	fi
}

inline hear_answer(d, handoff)
{
	for (k : 0 .. HANDOFFS - 1) {
		if
		:: relays[k] && !confirmed[k] && first[k] == d &&
		   (k == handoff || (WRONG == ANY_ANSWER && second[k] == second[handoff])) ->
			confirmed[k] = true;
			say(d, second[k], Done, k)
		:: else -> skip
		fi
	}
}

/* The second device */

inline restore(d, handoff)
{
	socket[d] = LIVE;
	received[d] = carried_received[handoff];
	moves[d] = carried_moves[handoff];
	call[d] = TO_ORDER;
	calls_for[d] = handoff
}

/* [6] If nobody fails, the switch lets a device speak as soon as it can. */
inline restored(d, handoff)
{
	assert(!calm || !former[d]);
	call[d] = NOTHING;
	cancel_relaying(d);
	if
	:: WRONG == ANNOUNCE_EARLY -> announce(d, first[handoff])
	:: else -> skip
	fi;
	if
	:: WRONG == NO_ORDER -> entry[d] = NONE
	:: else -> entry[d] = ORDER
	fi;
	second_state[handoff] = WAIT;
	say(d, first[handoff], Acknowledgment, handoff)
}

inline refuse(d, handoff)
{
	second_state[handoff] = OVER;
	say(d, first[handoff], Fail, handoff)
}

/* It may have been handed on meanwhile; then the client will see to the rest. */
inline reset_restored(d, handoff)
{
	second_state[handoff] = OVER;
	is_reset = true;
	socket[d] = CLOSED;
	if
	:: entry[d] == ORDER -> entry[d] = NONE; discard_parked(d)
	:: else -> skip
	fi
}

/* What devices say */

inline first_hears(d, handoff)
{
	if
	:: kind == OpenResponse && first_state[handoff] == OPEN -> first_state[handoff] = ACTIVE
	:: kind == Fail && (first_state[handoff] == OPEN || first_state[handoff] == ACTIVE) -> first_state[handoff] = OVER
	:: kind == Fail && first_state[handoff] == WAIT && socket[d] == FROZEN -> unfreeze(d, handoff)
	:: kind == Acknowledgment && first_state[handoff] == WAIT && socket[d] == FROZEN -> commit(d, handoff)
	:: first_state[handoff] == WAIT && socket[d] != FROZEN -> /* reset meanwhile */
		first_state[handoff] = OVER;
		entry[d] = NONE;
		discard_parked(d)
	:: else -> skip
	fi
}

inline second_hears(d, handoff)
{
	if
	:: kind == Open && second_state[handoff] == IDLE ->
		second_state[handoff] = ACTIVE;
		say(d, first[handoff], OpenResponse, handoff)
	:: kind == HandoffComplete && second_state[handoff] == ACTIVE && socket[d] == CLOSED -> restore(d, handoff)
	:: kind == HandoffComplete && second_state[handoff] == ACTIVE && socket[d] != CLOSED -> refuse(d, handoff)
	:: kind == HandoffComplete && second_state[handoff] == ACTIVE && may_fail -> faults++; refuse(d, handoff)
	:: kind == Done && (second_state[handoff] == WAIT || second_state[handoff] == DONE) -> second_state[handoff] = OVER
	:: kind == Fail && second_state[handoff] == ACTIVE -> second_state[handoff] = OVER
	:: kind == Fail && (second_state[handoff] == WAIT || second_state[handoff] == DONE) -> reset_restored(d, handoff)
	:: else -> skip
	fi
}

inline hear(d, handoff)
{
	if
	:: first[handoff] == d -> first_hears(d, handoff)
	:: else -> second_hears(d, handoff)
	fi
}

/* One handoff at a time: a call of the control loop may follow from each. */
inline hear_of_loss(d, peer)
{
	for (h : 0 .. HANDOFFS - 1) {
		if
		:: !is_free(d) || h >= begun -> skip
		:: else ->
			if
			:: first[h] == d && second[h] == peer && first_state[h] == WAIT -> give_up_waiting(d, h)
			:: first[h] == d && second[h] == peer && (first_state[h] == OPEN || first_state[h] == ACTIVE) ->
				first_state[h] = OVER
			:: second[h] == d && first[h] == peer && second_state[h] == WAIT && WRONG != WAIT_FOR_DONE ->
				second_state[h] = OVER
			:: second[h] == d && first[h] == peer && (second_state[h] == ACTIVE || second_state[h] == DONE) ->
				second_state[h] = OVER
			:: else -> skip
			fi
		fi
	}
	lost[PAIR(d, peer)] = !is_free(d)
}

/* Faults */

inline fall_silent(from, to)
{
	do
	:: len(scp[PAIR(from, to)]) > 0 -> scp[PAIR(from, to)]?_, _
	:: len(scp[PAIR(from, to)]) == 0 -> break
	od
}

inline break_session(a, b)
{
	fall_silent(a, b);
	fall_silent(b, a);
	lost[PAIR(a, b)] = true;
	lost[PAIR(b, a)] = true
}

inline forget_handoffs(d)
{
	for (h : 0 .. HANDOFFS - 1) {
		if
		:: h < begun && first[h] == d ->
			first_state[h] = OVER;
			relays[h] = entry[d] == RELAY && way[d] == second[h]; /* the next run inherits it */
			confirmed[h] = relays[h]
		:: h < begun && second[h] == d -> second_state[h] = OVER
		:: else -> skip
		fi
	}
}

inline crash(d)
{
	has_crashed = true;
	is_reset = is_reset || socket[d] == LIVE;
	socket[d] = CLOSED;
	call[d] = NOTHING;
	discard_parked(d);
	if
	:: entry[d] == HOLD || entry[d] == ORDER -> entry[d] = NONE
	:: else -> skip
	fi;
	forget_handoffs(d);
	break_session(d, (d + 1) % DEVICES);
	break_session(d, (d + 2) % DEVICES);
	lost[PAIR(d, (d + 1) % DEVICES)] = false;
	lost[PAIR(d, (d + 2) % DEVICES)] = false;
	do
	:: len(answered[d]) > 0 -> answered[d]?_
	:: len(answered[d]) == 0 -> break
	od
}

proctype Faults()
{
	byte d;

end:	do
	:: atomic { may_fail -> faults++; select(d : 0 .. DEVICES - 1); break_session(d, (d + 1) % DEVICES) }
	:: atomic { may_fail -> faults++; select(d : 0 .. DEVICES - 1); crash(d) }
	:: atomic { may_fail && len(asked[0]) > 0 -> faults++; asked[0]?_ }
	:: atomic { may_fail && len(asked[1]) > 0 -> faults++; asked[1]?_ }
	:: atomic { may_fail && len(asked[2]) > 0 -> faults++; asked[2]?_ }
	od
}

/* Devices, switch, client */

#define is_nothing_coming(d) \
	(len(direct[d]) == 0 && len(relayed[PAIR(0, d)]) == 0 && len(relayed[PAIR(1, d)]) == 0 && len(relayed[PAIR(2, d)]) == 0)
#define is_network_quiet \
	(is_nothing_coming(0) && is_nothing_coming(1) && is_nothing_coming(2) && len(parked[0]) == 0 && \
	 len(parked[1]) == 0 && len(parked[2]) == 0)

proctype Kernel(byte d)
{
end:	do
	:: atomic { direct[d]?packet -> node_ingress(d) }
	:: atomic { relayed[PAIR((d + 1) % DEVICES, d)]?packet -> node_ingress(d) }
	:: atomic { relayed[PAIR((d + 2) % DEVICES, d)]?packet -> node_ingress(d) }
	:: atomic { (call[d] == TO_RELAY || call[d] == TO_STACK) && len(parked[d]) > 0 -> node_park(d) }
	:: atomic { entry[d] == ORDER && is_first_next(d) -> let_first_in(d) }
	:: atomic { entry[d] == ORDER && !calm && len(parked[d]) > 0 && is_nothing_coming(d) -> let_first_in(d) }
	:: atomic { entry[d] == ORDER && is_network_quiet && (!calm || known_moves >= moves[d]) -> entry[d] = NONE }
	od
}

/* The control loop ends the call that it is in, or hears from the switch, */
proctype Daemon(byte d)
{
end:	do
	:: atomic { call[d] == TO_ORDER -> restored(d, calls_for[d]) }
	:: atomic { call[d] == TO_STACK && len(parked[d]) == 0 -> change_entry(d); call[d] = NOTHING }
	:: atomic { call[d] == TO_RELAY && len(parked[d]) == 0 -> committed(d, calls_for[d]) }
	:: atomic { is_free(d) && len(answered[d]) > 0 -> answered[d]?h; hear_answer(d, h) }
	od
}

/* ... or from another device. */
proctype Session(byte d, peer)
{
end:	do
	:: atomic {
		is_free(d) && !lost[PAIR(d, peer)] && len(scp[PAIR(peer, d)]) > 0 ->
		scp[PAIR(peer, d)]?kind, h;
		hear(d, h)
	   }
	:: atomic { is_free(d) && lost[PAIR(d, peer)] -> hear_of_loss(d, peer) }
	od
}

#define giver first[handoff]
#define taker second[handoff]
#define is_nothing_asked (len(asked[giver]) == 0 && len(answered[giver]) == 0)
#define is_nothing_said \
	(len(scp[PAIR(giver, taker)]) == 0 && len(scp[PAIR(taker, giver)]) == 0 && !lost[PAIR(giver, taker)] && \
	 !lost[PAIR(taker, giver)] && is_free(giver) && is_free(taker) && is_nothing_asked && !has_more_to_do)
/* The first device has something to say next. */
#define has_more_to_do ((first_state[handoff] == ACTIVE && socket[giver] == LIVE) || (relays[handoff] && !confirmed[handoff]))
#define may_time_out (is_nothing_said || may_fail)

inline time_out()
{
	faults = faults + (is_nothing_said -> 0 : 1)
}

/* What the two devices of a handoff do by themselves, and their timers. */
proctype Handoff(byte handoff)
{
end_idle:
	if
	:: atomic { begun == handoff && may_begin(0) -> begin(0, 1) }
	:: atomic { begun == handoff && may_begin(0) && begun > 0 -> begin(0, 2) } /* 1 and 2 are the same at first */
	:: atomic { begun == handoff && may_begin(1) -> begin(1, 0) }
	:: atomic { begun == handoff && may_begin(1) -> begin(1, 2) }
	:: atomic { begun == handoff && may_begin(2) -> begin(2, 0) }
	:: atomic { begun == handoff && may_begin(2) -> begin(2, 1) }
	fi;
end:	do
	:: atomic {
		is_free(giver) && first_state[handoff] == ACTIVE && socket[giver] == LIVE &&
		(len(parked[giver]) == 0 || !calm || WRONG == FREEZE_AT_GAP) ->
		freeze(giver, handoff)
	   }
	:: atomic { is_free(giver) && first_state[handoff] == ACTIVE && socket[giver] != LIVE -> give_up(giver, handoff) }
	:: atomic { is_free(giver) && first_state[handoff] == ACTIVE && may_fail -> faults++; give_up(giver, handoff) }
	:: atomic {
		is_free(giver) && (first_state[handoff] == OPEN || first_state[handoff] == ACTIVE) && may_time_out ->
		time_out();
		give_up(giver, handoff)
	   }
	:: atomic {
		is_free(giver) && first_state[handoff] == WAIT && may_time_out ->
		time_out();
		give_up_waiting(giver, handoff)
	   }
	:: atomic { is_free(taker) && second_state[handoff] == ACTIVE && may_time_out -> time_out(); refuse(taker, handoff) }
	:: atomic {
		is_free(taker) && second_state[handoff] == WAIT && may_time_out && WRONG != WAIT_FOR_DONE ->
		time_out();
		second_state[handoff] = DONE
	   }
	:: atomic { is_free(taker) && second_state[handoff] == DONE && may_time_out -> time_out(); second_state[handoff] = OVER }
	:: atomic {
		is_free(giver) && relays[handoff] && !confirmed[handoff] && (is_nothing_asked || may_fail) ->
		faults = faults + (is_nothing_asked -> 0 : 1);
		asked[giver]!handoff
	   }
	:: atomic {
		is_free(giver) && relays[handoff] && confirmed[handoff] && is_network_quiet ->
		relays[handoff] = false;
		entry[giver] = NONE
	   }
	od
}

/* A question about an older handoff is answered and changes nothing. */
inline change_owner(d)
{
	asked[d]?h;
	if
	:: carried_moves[h] >= known_moves || WRONG == OBEY_OLDER ->
		former[owner] = true;
		owner = second[h];
		former[owner] = false;
		known_moves = carried_moves[h]
	:: else -> skip
	fi;
	answered[d]!h
}

proctype Switch()
{
end:	do
	:: atomic { sent < PACKETS -> sent++; direct[owner]!sent }
	:: atomic { len(asked[0]) > 0 -> change_owner(0) }
	:: atomic { len(asked[1]) > 0 -> change_owner(1) }
	:: atomic { len(asked[2]) > 0 -> change_owner(2) }
	od
}

/* Promises */

#define speaks(d) (socket[d] == LIVE -> 1 : 0)
#define speakers (speaks(0) + speaks(1) + speaks(2))
#define waits(handoff, d) (first[handoff] == d && first_state[handoff] == WAIT)
#define is_stuck(d) \
	(socket[d] == FROZEN && is_free(d) && !waits(0, d) && !waits(1, d) && !waits(HANDOFFS - 1, d))

/* [2] At most one device speaks. [3] Every way out of WAIT un-freezes the socket, or ends it. */
proctype Always()
{
end:	if
	:: atomic { speakers > 1 -> assert(false) }
	:: atomic { is_stuck(0) || is_stuck(1) || is_stuck(2) -> assert(false) }
	fi
}

#define is_over(handoff) \
	((first_state[handoff] == OVER || first_state[handoff] == IDLE) && \
	 (second_state[handoff] == OVER || second_state[handoff] == IDLE) && !relays[handoff])
#define is_clean(d) (entry[d] == NONE && socket[d] != FROZEN && len(parked[d]) == 0 && is_free(d))

/* When nothing more can happen. */
proctype End()
{
end:	atomic {
		timeout;
		/* [4] Nothing is left behind. */
		assert(is_over(0) && is_over(1) && is_over(HANDOFFS - 1));
		assert(is_clean(0) && is_clean(1) && is_clean(2));
		/* [5] The session goes on, where the switch sends it, or the client has seen it end. */
		assert(is_reset || has_crashed || (speakers == 1 && socket[owner] == LIVE));
		assert(!calm || (!is_reset && received[owner] == PACKETS))
	}
}

init {
	atomic {
		socket[0] = LIVE;
		run Kernel(0); run Kernel(1); run Kernel(2);
		run Daemon(0); run Daemon(1); run Daemon(2);
		run Session(0, 1); run Session(0, 2);
		run Session(1, 0); run Session(1, 2);
		run Session(2, 0); run Session(2, 1);
		for (h : 0 .. HANDOFFS - 1) {
			run Handoff(h)
		}
		run Switch();
		run Faults();
		run Always();
		run End()
	}
}
