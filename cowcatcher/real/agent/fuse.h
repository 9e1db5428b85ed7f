/* SPDX-License-Identifier: Apache-2.0 */
/* Files of our own in which requests wait until told: what fuse.c has for other servers. Errors are errnos. */
#ifndef FUSE_H
#define FUSE_H

#include "agent.h"

const char *fuse_lacks(void);
int fuse_make(int *queue, int *fd); /* a file, open with O_DIRECT, and the queue in which its requests wait */
int fuse_complete(int queue, bool device_writes, char sector[SECTOR]); /* the next request; does not await its end */
int fuse_fail(int queue, int n);

#endif
