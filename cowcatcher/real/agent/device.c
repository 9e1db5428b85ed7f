// SPDX-License-Identifier: Apache-2.0
/* The devices: which there are, and the life of a pin. */
#include "agent.h"

#include <stdio.h>
#include <string.h>

const struct backend *const backends[] = {
	&uring, &vfio, &rxe, &rxe_odp, &xdp, &vivid, &pipe_backend, &zerocopy, &dm, &loop, &nbd, &fuse, &nfs,
};

enum { N_BACKENDS = sizeof(backends) / sizeof(backends[0]) };

int backend_of(const char *name)
{
	for (int i = 0; i < N_BACKENDS; i++)
		if (!strcmp(name, backends[i]->name))
			return i;
	return -1;
}

/* Asked once: what a machine lacks, it goes on lacking. */
static const char *lacks(const struct backend *backend)
{
	static const char *answers[N_BACKENDS];
	static bool asked[N_BACKENDS];
	int i = backend_of(backend->name);

	if (!asked[i]) {
		answers[i] = backend->probe();
		asked[i] = true;
	}
	return answers[i];
}

/* backend NAME, or lacks NAME WHAT, for every one: what this machine can do */
void print_backends(void)
{
	for (int i = 0; i < N_BACKENDS; i++) {
		const char *what = lacks(backends[i]);

		if (what)
			printf("lacks %s %s\n", backends[i]->name, what);
		else
			printf("backend %s\n", backends[i]->name);
	}
}

/* All are probed before the first is opened: a probe may open what a pin's own opening finds then. */
bool open_pins(void)
{
	for (int i = 0; i < test.n_pins; i++) {
		const struct backend *backend = test.pins[i].backend;
		const char *what = lacks(backend);

		if (what) {
			printf("lacks %s %s\n", backend->name, what);
			return false;
		}
	}
	for (int i = 0; i < test.n_pins; i++) {
		struct pin *pin = &test.pins[i];
		int error = pin->backend->open(i);

		if (error) {
			printf("setup 0 %s error %d\n", pin->backend->name, error);
			return false;
		}
		pin->opened = true;
	}
	return true;
}

void disown_pins(void)
{
	for (int i = 0; i < N_BACKENDS; i++)
		if (backends[i]->disown)
			backends[i]->disown();
	leave_private();
}

void close_pins(void)
{
	for (int i = 0; i < test.n_pins; i++)
		if (test.pins[i].opened && test.pins[i].backend->close)
			test.pins[i].backend->close(i);
}

struct reply hold(const struct request *rq)
{
	return backends[rq->backend]->hold(rq);
}

struct reply let_go(const struct request *rq)
{
	return backends[rq->backend]->let_go(rq);
}

struct reply unpin(int index)
{
	struct pin *pin = &test.pins[index];

	if (!pin->held)
		return failure(EINVAL);
	pin->held = false;
	return pin->backend->release(index);
}

struct reply dma(const struct step *step)
{
	const struct pin *pin = &test.pins[step->target];

	/* EIO: there is no such pin, it was not taken */
	return pin->held || (pin->taken && pin->backend->late) ? pin->backend->dma(step->target, step) : failure(EIO);
}
