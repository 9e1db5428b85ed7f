/* SPDX-License-Identifier: Apache-2.0 */
/* Files of our own in which requests wait until told: what fuse.c has for other servers. Errors are errnos. */
#ifndef FUSE_H
#define FUSE_H

#include "agent.h"

const char *fuse_lacks(void);
/*
 * A file, open with O_DIRECT, and the queue in which its requests wait. With `use`: what that makes of the file instead, as
 * long as all requests are still answered; it returns a descriptor, or -1 with errno.
 */
int fuse_make(int *queue, int (*use)(int file), int *fd);
int fuse_complete(int queue, bool device_writes, char sector[SECTOR]); /* the next request; does not await its end */
int fuse_fail(int queue, int n);

#endif
