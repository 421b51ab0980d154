/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/tc_program.h - BPF programs on the tc hooks of interfaces, and their pinned maps
 *
 * For the node program (common/kernel_helper.h) and the switch's fabric (master/fabric.h). A program's object file is
 * embedded in the binary. Its maps are pinned below a directory on a bpffs, a program stays attached until it is
 * replaced or detached: both outlive the daemon.
 *
 * A map's name ends in a number, "node_flows_1", the version of what its fields mean. It is pinned as "node_flows".
 * What is pinned there by another version is replaced, not taken up. A map whose name ends in no number belongs to the
 * program that was loaded with it, is not pinned, and is replaced with it at one stroke.
 *
 * Several programs share a hook: the lower priority runs first and hands on with TC_ACT_UNSPEC.
 *
 * Threads: the control loop's.
 */
#ifndef VNAS_COMMON_TC_PROGRAM_H
#define VNAS_COMMON_TC_PROGRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bpf_object; /* bpf/libbpf.h */

/* What leaves passes the node program first, which may drop it. */
enum tc_priority { TC_PRIORITY_FABRIC = 1, TC_PRIORITY_NODE = 2, TC_PRIORITY_FABRIC_OUT = 3 };

/* Bits: both together name the whole clsact qdisc. */
enum tc_direction { TC_DIRECTION_INGRESS = 1, TC_DIRECTION_EGRESS = 2 };

struct tc_place {
	unsigned int ifindex;
	enum tc_direction direction;
	enum tc_priority priority;
};

/* Embeds the file at @path (as the assembler finds it) between the symbols @name and @name_end. */
#define TC_EMBED(name, path)                                              \
	__asm__(".pushsection .rodata, \"a\"\n"                           \
		"\t.balign 8\n"                                           \
		"\t.globl " #name ", " #name "_end\n" #name ":\n"         \
		"\t.incbin \"" path "\"\n" #name "_end:\n"                \
		"\t.byte 0\n"                                             \
		"\t.popsection\n");                                       \
	extern const char name[], name##_end[]

/**
 * tc_open() - parse an embedded object
 * @elf, @size:	the object file; borrowed for the object's life
 * @name:	for logs
 * @out:	out: untouched on failure; to be closed with bpf_object__close()
 *
 * Between tc_open() and tc_load() sizes of maps and read-only variables may be set.
 */
int tc_open(const void *elf, size_t size, const char *name, struct bpf_object **out);

/* Set the object's read-only variables, which are one struct. Between tc_open() and tc_load(). */
int tc_set_constants(struct bpf_object *object, const void *value, size_t size);

/* Set a map's number of entries. Between tc_open() and tc_load(). */
int tc_set_entries(struct bpf_object *object, const char *map, uint32_t entries);

/**
 * tc_load() - load into the kernel, with the maps that are pinned, and pin the others
 * @pin_dir:	on a bpffs; made if missing
 * @took_up:	out: whether a map of an earlier run was taken up; set on failure too
 *
 * A pinned map keeps its number of entries.
 *
 * Return: 0; -EPERM, -EOPNOTSUPP (no BPF, @pin_dir not on a bpffs) or what the kernel said, logged with what to do
 */
int tc_load(struct bpf_object *object, const char *pin_dir, bool *took_up);

/* Unpin all maps of the object, and remove the directory if it is empty. */
void tc_unpin(struct bpf_object *object, const char *pin_dir);

/**
 * tc_attach() - put a program on a hook, in place of an older one of the same priority
 * @program:	its function's name
 *
 * Makes the clsact qdisc if there is none. Return: 0 or a negative errno value, logged
 */
int tc_attach(struct bpf_object *object, const char *program, const struct tc_place *place);

/* Take the program off; and the qdisc away if nothing else uses it. No program is no error. */
void tc_detach(const struct tc_place *place);

/**
 * tc_detach_strays() - take programs off the interfaces that are not used any more
 * @place:	direction and priority; the interface is not looked at
 * @prefix:	what the names of our programs start with
 * @keep:	the interfaces to leave alone
 */
void tc_detach_strays(const struct tc_place *place, const char *prefix, const unsigned int *keep, size_t keep_count);

/* A map's descriptor by its name. -ENOENT is our bug. */
int tc_map_fd(struct bpf_object *object, const char *map);

int tc_program_fd(struct bpf_object *object, const char *program);

/* Run a program of type "syscall" once; @context comes back as it left it. Return: 0 or what the kernel said */
int tc_run(int program_fd, void *context, size_t len);

/* Sum an array per CPU of 64-bit counters; unreadable ones count as 0. */
void tc_sum_counters(int map_fd, uint64_t *sums, uint32_t count);

#endif
