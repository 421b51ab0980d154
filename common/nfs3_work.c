/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Operations on workers.
 *
 * What changes an object, and is to be durable before it is answered, is carried out together with what else changes
 * that object. While a worker is on its way to the first, or busy with it, others collect behind it. They are carried
 * out with the first, or after it, one after the other, and made durable at once:
 *
 *	worker:		WRITE a, fsync		WRITE b, c, d, fsync		WRITE e ...
 *	loops:		b, c, d come		answer a; e comes		answer b, c, d
 *
 * On threads of their own they would wait for each other, for the object's lock and for the same commit of the journal, and each
 * wait costs more than most operations. Nothing waits to be joined: an operation alone runs at once, and as without all this.
 */
#include "config.h"

#include "common/group_commit.h"
#include "common/nfs3_internal.h"
#include "common/workers.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum {
	TOGETHER_MAX = 16, /* the first is answered when the last is done */
	BUCKETS = 256,
	COST_BYTES = 32 * 1024, /* of data take about as long as an operation without */
	SPARE_WORKS_MAX = 128, /* of a loop, so that an operation needs no allocation */
};

STAILQ_HEAD(nfs3_works, nfs3_work);

struct nfs3_work {
	struct work work;
	struct nfs3_op op;
	struct bytes_writer start; /* of the results */
	int err;
	STAILQ_ENTRY(nfs3_work) link;
	SLIST_ENTRY(nfs3_work) spare;

	/* Of the first of several. */
	struct nfs3_works together; /* itself, and who is carried out with it */
	struct nfs3_works waiting;  /* who comes after them; under the mutex */
	LIST_ENTRY(nfs3_work) in_bucket;
};

LIST_HEAD(bucket, nfs3_work);

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct bucket firsts[BUCKETS]; /* under the mutex: submitted or running, by their objects */

static bool may_join(const struct nfs3_op *op)
{
	if (!op->procedure->joins || !op->volume->backend->sync)
		return false;
	return op->procedure->run != nfs3_write || op->args.write.stable != UNSTABLE;
}

static struct bucket *bucket_of(const struct handle *object)
{
	uint64_t hash = 14695981039346656037u; /* FNV-1a */

	for (size_t i = 0; i < object->backend_len; i++)
		hash = (hash ^ object->backend[i]) * 1099511628211u;
	return &firsts[(hash ^ hash >> 32) % BUCKETS];
}

static bool is_same_object(const struct nfs3_op *a, const struct nfs3_op *b)
{
	return a->volume == b->volume && a->object.backend_type == b->object.backend_type &&
	       a->object.backend_len == b->object.backend_len &&
	       memcmp(a->object.backend, b->object.backend, a->object.backend_len) == 0;
}

/* With the mutex. Who joins waits; else it is one that others may wait for, if it can be submitted. 0; -ENOMEM */
static int join(struct nfs3_work *own)
{
	struct bucket *bucket = bucket_of(&own->op.object);
	struct nfs3_work *first;
	int rc;

	LIST_FOREACH(first, bucket, in_bucket)
		if (is_same_object(&first->op, &own->op))
			break;
	if (first) {
		STAILQ_INSERT_TAIL(&first->waiting, own, link);
		return 0;
	}
	rc = workers_submit(own->op.service->options.workers, &own->work);
	if (rc == 0)
		LIST_INSERT_HEAD(bucket, own, in_bucket);
	return rc;
}

/* Who has come while the worker was on its way is carried out with @first, too. */
static void gather(struct nfs3_work *first)
{
	struct nfs3_work *one;

	pthread_mutex_lock(&mutex);
	for (int i = 1; i < TOGETHER_MAX && (one = STAILQ_FIRST(&first->waiting)); i++) {
		STAILQ_REMOVE_HEAD(&first->waiting, link);
		STAILQ_INSERT_TAIL(&first->together, one, link);
	}
	pthread_mutex_unlock(&mutex);
}

/* @first and those with it are done. Return: the first of those who waited, whom the others wait for now, or NULL */
static struct nfs3_work *next_after(struct nfs3_work *first)
{
	struct nfs3_work *next;

	pthread_mutex_lock(&mutex);
	LIST_REMOVE(first, in_bucket);
	next = STAILQ_FIRST(&first->waiting);
	if (next) {
		STAILQ_REMOVE_HEAD(&first->waiting, link);
		STAILQ_CONCAT(&next->waiting, &first->waiting);
		LIST_INSERT_HEAD(bucket_of(&next->op.object), next, in_bucket);
	}
	pthread_mutex_unlock(&mutex);
	return next;
}

/* Return: whether there is something to make durable */
static bool perform_all(struct nfs3_work *first)
{
	bool before = group_commit_set(true), is_changed = false;
	struct nfs3_work *one;

	STAILQ_FOREACH(one, &first->together, link) {
		one->err = nfs3_perform(&one->op, 0);
		is_changed |= !one->err;
	}
	group_commit_set(before);
	return is_changed;
}

/*
 * What the replies promise is kept before they are sent; RFC 1813, 3.3.7. If the write verifier has changed,
 * somebody else was told of a loss, which may have been one of data that was written here.
 */
static void carry_out(struct nfs3_work *first)
{
	struct volume *volume = first->op.volume;
	uint64_t verifier = __atomic_load_n(&volume->write_verifier, __ATOMIC_SEQ_CST);
	struct nfs3_work *one;
	bool is_lost;
	int err;

	if (!perform_all(first))
		return;
	err = volume->backend->sync(volume, &first->op.object);
	is_lost = __atomic_load_n(&volume->write_verifier, __ATOMIC_SEQ_CST) != verifier;
	STAILQ_FOREACH(one, &first->together, link) {
		if (one->err || (!err && !(is_lost && one->op.procedure->moves_data)))
			continue;
		one->err = err ? err : -EIO;
		nfs3_put_failure(&one->op, &one->start, one->err);
	}
}

/* @first is in the workers' hands. */
static void send_home_others(struct nfs3_work *first)
{
	struct nfs3_work *one;

	while ((one = STAILQ_FIRST(&first->together))) {
		STAILQ_REMOVE_HEAD(&first->together, link);
		if (one != first)
			workers_send_home(one->op.service->options.workers, &one->work);
	}
}

static void together_run(struct work *work)
{
	struct nfs3_work *first = (struct nfs3_work *)work, *next;

	gather(first);
	if (STAILQ_NEXT(first, link))
		carry_out(first);
	else
		first->err = nfs3_perform(&first->op, 0);
	next = next_after(first);
	if (next)
		workers_submit_next(next->op.service->options.workers, &next->work);
	send_home_others(first);
}

static void alone_run(struct work *work)
{
	struct nfs3_work *own = (struct nfs3_work *)work;

	own->err = nfs3_perform(&own->op, 0);
}

static struct nfs3_work *work_new(struct file_service *service)
{
	struct nfs3_work *own = SLIST_FIRST(&service->spare_works);

	if (!own)
		return malloc(sizeof(*own));
	SLIST_REMOVE_HEAD(&service->spare_works, spare);
	service->spare_work_count--;
	return own;
}

static void work_free(struct file_service *service, struct nfs3_work *own)
{
	if (service->spare_work_count >= SPARE_WORKS_MAX) {
		free(own);
		return;
	}
	SLIST_INSERT_HEAD(&service->spare_works, own, spare);
	service->spare_work_count++;
}

void nfs3_work_free_spare(struct file_service *service)
{
	struct nfs3_work *own;

	while ((own = SLIST_FIRST(&service->spare_works))) {
		SLIST_REMOVE_HEAD(&service->spare_works, spare);
		free(own);
	}
}

/* In the loop whose service it is of. */
static void work_done(struct work *work)
{
	struct nfs3_work *own = (struct nfs3_work *)work;

	nfs3_reply_end(&own->op, own->err);
	nfs3_args_free(own->op.procedure, &own->op.args);
	work_free(own->op.service, own);
}

static int submit(struct nfs3_work *own)
{
	int rc;

	if (own->work.run == alone_run)
		return workers_submit(own->op.service->options.workers, &own->work);
	pthread_mutex_lock(&mutex);
	rc = join(own);
	pthread_mutex_unlock(&mutex);
	return rc;
}

int nfs3_work_submit(const struct nfs3_op *op)
{
	struct nfs3_work *own = work_new(op->service);

	if (!own)
		return -ENOMEM;
	*own = (struct nfs3_work){
		.work = {
			.home = op->service->loop,
			.lane = op->volume,
			.queue = op->queue,
			.weight = op->weight,
			.cost = 1 + nfs3_data_bytes(op) / COST_BYTES,
			.run = may_join(op) ? together_run : alone_run,
			.done = work_done,
		},
		.op = *op,
		.start = op->out,
	};
	STAILQ_INIT(&own->together);
	STAILQ_INIT(&own->waiting);
	STAILQ_INSERT_HEAD(&own->together, own, link);
	if (submit(own) == 0)
		return 0;
	work_free(op->service, own);
	return -ENOMEM;
}
