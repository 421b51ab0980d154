/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/nfs3_internal.h - what the files of the NFS version 3 engine share
 *
 * nfs3.c		the table of procedures; decodes arguments, finds the volume, sends failures
 * nfs3_work.c		operations on workers, and which of them are carried out together
 * nfs3_rights.c	which rights a call has, as whom
 * nfs3_codec.c		between the backend's words and the protocol's: status, attributes, names
 * nfs3_attributes.c	GETATTR, SETATTR, ACCESS
 * nfs3_lookup.c	LOOKUP, READLINK
 * nfs3_read.c		READ
 * nfs3_write.c		WRITE, COMMIT
 * nfs3_create.c	CREATE, MKDIR, SYMLINK, MKNOD
 * nfs3_remove.c	REMOVE, RMDIR, RENAME, LINK
 * nfs3_readdir.c	READDIR, READDIRPLUS
 * nfs3_spread.c	what changes a spread directory
 * nfs3_fsinfo.c	FSSTAT, FSINFO, PATHCONF
 * nfs_acl.c		another program, NFSACL, whose calls are answered in the same way: GETACL, SETACL
 *
 * A procedure is a function that acts on an operation, perhaps on a worker's thread (so it leaves the service and the
 * name space alone unless its row says otherwise), and writes its results behind the status. If it fails, what
 * it wrote is forgotten and the dispatcher writes the status and the facts that were had.
 */
#ifndef VNAS_COMMON_NFS3_INTERNAL_H
#define VNAS_COMMON_NFS3_INTERNAL_H

#include "common/bytes.h"
#include "common/file_service_internal.h"
#include "common/nfs3_xdr.h"    /* made by rpcgen from common/nfs3.x */
#include "common/nfs_acl_xdr.h" /* made by rpcgen from common/nfs_acl.x */

#include <limits.h>

/* RFC 1813, 3.3 */
enum nfs3_number {
	NFS3_NULL,
	NFS3_GETATTR,
	NFS3_SETATTR,
	NFS3_LOOKUP,
	NFS3_ACCESS,
	NFS3_READLINK,
	NFS3_READ,
	NFS3_WRITE,
	NFS3_CREATE,
	NFS3_MKDIR,
	NFS3_SYMLINK,
	NFS3_MKNOD,
	NFS3_REMOVE,
	NFS3_RMDIR,
	NFS3_RENAME,
	NFS3_LINK,
	NFS3_READDIR,
	NFS3_READDIRPLUS,
	NFS3_FSSTAT,
	NFS3_FSINFO,
	NFS3_PATHCONF,
	NFS3_COMMIT,
};

enum nfs_acl_number { NFS_ACL_NULL, NFS_ACL_GETACL, NFS_ACL_SETACL };

enum {
	NFS3_FATTR_BYTES = 84,
	NFS3_POST_OP_BYTES = 4 + NFS3_FATTR_BYTES,
	NFS3_DATAGRAM_DATA_MAX = 32 * 1024,  /* of READ and directories over UDP */
	NFS3_DIRECTORY_MAX = 128 * 1024,     /* of READDIR's and READDIRPLUS' results */
	NFS3_NAME_BYTES = NAME_MAX + 1,	     /* room for a name and its NUL */
};

/* The pointers of procedures that have a `decode` lead into the call's record; others are XDR's. */
union nfs3_args {
	nfs_fh3 object; /* all that takes a handle and no more */
	SETATTR3args setattr;
	LOOKUP3args lookup;
	ACCESS3args access;
	READ3args read;
	WRITE3args write;
	CREATE3args create;
	MKDIR3args mkdir;
	SYMLINK3args symlink;
	MKNOD3args mknod;
	REMOVE3args remove; /* and RMDIR */
	RENAME3args rename;
	LINK3args link;
	READDIR3args readdir;
	READDIRPLUS3args readdirplus;
	COMMIT3args commit;
	GETACL3args getacl;
	SETACL3args setacl;
};

/* What results carry beside the status, of success and of failure alike. */
enum nfs3_facts {
	NFS3_NO_FACTS,
	NFS3_AFTER,	   /* post_op_attr */
	NFS3_CHANGE,	   /* wcc_data */
	NFS3_TWO_CHANGES,  /* RENAME */
	NFS3_AFTER_CHANGE, /* LINK */
};

/* What is above a volume's root, if that is asked for. */
struct nfs3_above {
	bool is_asked;
	int err;
	uint64_t fsid;
	struct backend_found found;
};

struct nfs3_procedure;

/* One call, while it is answered. */
struct nfs3_op {
	struct file_service *service;
	const struct nfs3_procedure *procedure;
	struct rpc_call *call;
	union nfs3_args args;
	struct handle object; /* the handle that every call's arguments begin with */
	struct handle second; /* RENAME's and LINK's other directory, in the same volume */
	struct handle object_directory, second_directory; /* where they were found, if the handles tell; else type 0 */
	bool is_divided; /* an export leads into the volume: handles that are made tell where their objects were found */
	bool hides_parent; /* of what is listed: the client has no rights there */
	struct volume *volume;
	struct export_rights rights;
	struct credentials who; /* after squashing */
	uint8_t queue; /* of its class, among what waits for workers */
	uint16_t weight;

	/* The facts, in the order of the protocol. */
	struct backend_attributes after;
	struct backend_change change;
	struct backend_change to_change;

	struct nfs3_above above; /* LOOKUP's; nfs3_lookup_prepare() */
	struct handle_key key;	 /* of the handles that are made */
	struct page_pipe *pages; /* for READ's data, or NULL; nfs3_read_room() gets it, nfs3_read() passes it on */
	struct bytes_writer out; /* behind the status */
};

struct nfs3_procedure {
	const char *name;
	xdrproc_t args;					     /* how XDR decodes the arguments, or NULL and then: */
	bool (*decode)(struct bytes_reader *r, union nfs3_args *args);
	size_t second;					     /* offset of the second nfs_fh3 in the arguments, or 0 */
	bool modifies;					     /* refused where the client may only read */
	bool waits;					     /* for a disk, always: others are tried in the loop first */
	bool joins;					     /* others that change the same object; nfs3_work.c */
	bool moves_data;				     /* for the placement of the session */
	enum nfs3_facts facts;
	void (*prepare)(struct nfs3_op *op);		     /* in the loop, whoever runs it then; or NULL */
	size_t (*room)(struct nfs3_op *op);		     /* for the results; NULL: NFS3_ROOM is enough */
	int (*run)(struct nfs3_op *op);			     /* 0 or a negative errno value */
};

/* Run the procedure, unless it failed before with @err, and write its results. Returns how it went. */
int nfs3_perform(struct nfs3_op *op, int err);

/* Write failure and facts in the place of results that begin at @start. */
void nfs3_put_failure(struct nfs3_op *op, const struct bytes_writer *start, int err);

/* The loop's: the results are written. @err: how it went */
void nfs3_reply_end(struct nfs3_op *op, int err);

/* Of data that the call would move. */
uint32_t nfs3_data_bytes(const struct nfs3_op *op);

void nfs3_args_free(const struct nfs3_procedure *procedure, union nfs3_args *args);

/**
 * nfs3_work_submit() - have an operation carried out by a worker, and its call answered
 * @op:		decoded, with its rights and a reply that was begun; copied, and its arguments and pages are taken
 *
 * Return: 0; -ENOMEM: nothing has happened
 */
int nfs3_work_submit(const struct nfs3_op *op);

/* Where the objects of a call are, in a volume of which a client may see parts. */
struct nfs3_places {
	char object[PATH_MAX], second[PATH_MAX];
};

/**
 * nfs3_check_rights() - may the client do this, and as whom
 * @op:		with its handles and its volume; gets `rights`, `who`, `is_divided` and `hides_parent`
 * @places:	NULL as long as they are not known
 *
 * Return: 0; an enum exports_open; -EACCES, -EROFS, -EXDEV, -EINPROGRESS, -ENOMEM
 */
int nfs3_check_rights(struct nfs3_op *op, const struct nfs3_places *places);

extern const struct nfs3_procedure nfs_acl_procedures[NFS_ACL_PROCEDURES];

/**
 * nfs_acl_decode() - an ACL from the wire
 * @wire:	@count entries, borrowed, in any order
 * @out:	sorted, without the mask that says nothing; undefined on failure
 *
 * Whether the entries make an ACL together is the kernel's to say.
 *
 * Return: 0; -EINVAL if there are too many, or one has an unknown type or permission
 * Source: what Linux and Solaris do; the essay in common/nfs_acl.c
 */
int nfs_acl_decode(const nfs_acl_entry *wire, size_t count, struct backend_acl *out);

/**
 * nfs_acl_encode() - write an ACL's number of entries and, perhaps, the entries
 * @owner:	whose owner and group are named in their entries
 * @is_default:	mark the entries so
 */
void nfs_acl_encode(struct bytes_writer *w, const struct backend_acl *acl, const struct stat *owner, bool is_default,
		    bool with_entries);

/**
 * nfs3_status() - the protocol's word for an errno value
 * @err:	0 or negative
 *
 * Beside the obvious: -EBADMSG is NFS3ERR_BADHANDLE, -EAGAIN NFS3ERR_NOT_SYNC, -ESPIPE NFS3ERR_BAD_COOKIE, -EMSGSIZE
 * NFS3ERR_TOOSMALL, -EPROTOTYPE NFS3ERR_BADTYPE; what passes with time (-EINPROGRESS, -ETIMEDOUT, no memory)
 * NFS3ERR_JUKEBOX. What is unknown is NFS3ERR_IO.
 */
nfsstat3 nfs3_status(int err);

/* How a name is used: an existing one may be "." or "..". */
enum nfs3_name_use { NFS3_NAME_FIND, NFS3_NAME_MAKE, NFS3_NAME_TAKE_AWAY, NFS3_NAME_RMDIR };

/**
 * nfs3_name() - check a name and terminate it
 *
 * Return: 0; -EINVAL (empty, '/' or NUL in it, "." or ".." to be taken away), -EEXIST ("." or ".." to be made, ".." to be
 * taken away by RMDIR), -ENAMETOOLONG
 * Source: RFC 1813, 3.3.9, 3.3.13, 3.3.14
 */
int nfs3_name(const filename3 *wire, enum nfs3_name_use use, char out[static NFS3_NAME_BYTES]);

/* Return: 0; -EINVAL if a time is none */
int nfs3_set(const sattr3 *wire, struct backend_set *out);

void nfs3_put_stat(struct bytes_writer *w, const struct stat *st, uint64_t fsid);
void nfs3_put_attributes(struct bytes_writer *w, const struct backend_attributes *attributes, uint64_t fsid);
void nfs3_put_handle(struct nfs3_op *op, const struct backend_found *found);
void nfs3_put_opaque(struct bytes_writer *w, const void *bytes, size_t len);
void nfs3_put_time(struct bytes_writer *w, const struct timespec *time);
void nfs3_put_facts(struct nfs3_op *op);

/*
 * Attributes that are known only after what follows them was written: leave room, go on, fill it in. If there are
 * none, what follows is moved.
 */
uint8_t *nfs3_leave_attributes(struct bytes_writer *w);
void nfs3_fill_attributes(struct bytes_writer *w, uint8_t *at, const struct backend_attributes *attributes,
			  uint64_t fsid);

/* The most data that a reply to this call may carry. */
size_t nfs3_data_max(const struct nfs3_op *op);

int nfs3_getattr(struct nfs3_op *op);
int nfs3_setattr(struct nfs3_op *op);
int nfs3_lookup(struct nfs3_op *op);
int nfs3_access(struct nfs3_op *op);
int nfs3_readlink(struct nfs3_op *op);
int nfs3_read(struct nfs3_op *op);
int nfs3_write(struct nfs3_op *op);
int nfs3_create(struct nfs3_op *op);
int nfs3_mkdir(struct nfs3_op *op);
int nfs3_symlink(struct nfs3_op *op);
int nfs3_mknod(struct nfs3_op *op);
int nfs3_remove(struct nfs3_op *op);
int nfs3_rmdir(struct nfs3_op *op);
int nfs3_rename(struct nfs3_op *op);
int nfs3_link(struct nfs3_op *op);
int nfs3_readdir(struct nfs3_op *op);
int nfs3_readdirplus(struct nfs3_op *op);
int nfs3_fsstat(struct nfs3_op *op);
int nfs3_fsinfo(struct nfs3_op *op);
int nfs3_pathconf(struct nfs3_op *op);
int nfs3_commit(struct nfs3_op *op);

/* For calls that come often: without allocating, as libtirpc does for each handle and name. */
bool nfs3_object_decode(struct bytes_reader *r, union nfs3_args *args);
bool nfs3_lookup_decode(struct bytes_reader *r, union nfs3_args *args);
bool nfs3_access_decode(struct bytes_reader *r, union nfs3_args *args);
bool nfs3_remove_decode(struct bytes_reader *r, union nfs3_args *args);
bool nfs3_read_decode(struct bytes_reader *r, union nfs3_args *args);
bool nfs3_write_decode(struct bytes_reader *r, union nfs3_args *args);
bool nfs3_handle_decode(struct bytes_reader *r, nfs_fh3 *out); /* borrows the record */

void nfs3_lookup_prepare(struct nfs3_op *op);

/**
 * nfs3_change_spread() - have a spread directory changed
 * @op:	decoded, with its rights, on the device that changes them
 *
 * Return: 0: the call is or will be answered; else it is to be answered so
 */
int nfs3_change_spread(struct nfs3_op *op);

/* What clients find instead of a branch's root: the spread directory. Nothing happens to anything else. */
void nfs3_leave_branch(const struct volume *volume, struct backend_found *found);

size_t nfs3_readlink_room(struct nfs3_op *op);
size_t nfs3_read_room(struct nfs3_op *op);
size_t nfs3_readdir_room(struct nfs3_op *op);
size_t nfs3_readdirplus_room(struct nfs3_op *op);

#endif
