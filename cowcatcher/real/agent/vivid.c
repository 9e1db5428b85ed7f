// SPDX-License-Identifier: Apache-2.0
/*
 * V4L2 capture to memory of a process (USERPTR), by the kernel's test driver `vivid`.
 *
 * videobuf2 pins what a buffer is given when that is prepared, and keeps it pinned until the same buffer is given other
 * memory: dequeueing it or stopping the stream ends no pin. So there is one queue, kept from test to test, with a
 * buffer for each pin and one for company, since the driver does not start with less than two. A test process that
 * inherited the descriptor prepares a buffer with its memory; the coordinator can queue it afterwards, because its
 * address and length are all that videobuf2 compares, and releases it by giving the buffer memory of its own.
 *
 * What the driver writes is a whole picture: black, 4 bytes a pixel, of which the first is the alpha component and can
 * be any byte. The last pixel of the first line lies at PICTURE_CELL, and behind each line there is a gap. So the word
 * there becomes that byte, if it was below 2^32; the rest of the picture is where no cell is.
 */
#define _GNU_SOURCE
#include "agent.h"

#include <fcntl.h>
#include <linux/videodev2.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
	WIDTH = 320, HEIGHT = 180, /* its smallest picture */
	PIXEL = 4,
	GAP = 8,
	LINE = WIDTH * PIXEL + GAP,
	LENGTH = LINE * HEIGHT,
	PICTURE_CELL = 1280, /* `headroom` in real/backends.py; `span` there is what a pin covers, in whole pages */
	OFFSET = PICTURE_CELL + PIXEL - WIDTH * PIXEL, /* of the picture */
	COMPANY = MAX_PINS, /* number of the buffer that is no pin's */
	N_BUFFERS,
	A_SECOND = 120, /* pictures: as many as it can */
	TEST_PATTERN = 0xf0f000, /* the driver's own control, a menu */
	N_PATTERNS = 64, /* at most */
	MAX_CAMERAS = 64,
	PICTURE_MS = 5000,
};

static int camera = -1;
static char *company; /* memory of the coordinator's */

static struct v4l2_buffer buffer(int index, uint64_t picture)
{
	return (struct v4l2_buffer){
		.index = (uint32_t)index,
		.type = V4L2_BUF_TYPE_VIDEO_CAPTURE,
		.memory = V4L2_MEMORY_USERPTR,
		.m.userptr = picture,
		.length = LENGTH,
	};
}

static int queue(int index, uint64_t picture)
{
	struct v4l2_buffer rq = buffer(index, picture);

	return ioctl(camera, VIDIOC_QBUF, &rq) < 0 ? errno : 0;
}

/* Also without a stream: every buffer is nobody's afterwards, and no pin ends. */
static int stop(void)
{
	int type = V4L2_BUF_TYPE_VIDEO_CAPTURE;

	return ioctl(camera, VIDIOC_STREAMOFF, &type) < 0 ? errno : 0;
}

static int set_control(uint32_t id, int value)
{
	struct v4l2_control control = {.id = id, .value = value};

	return ioctl(camera, VIDIOC_S_CTRL, &control) < 0 ? errno : 0;
}

static int choose_black(void)
{
	for (uint32_t i = 0; i < N_PATTERNS; i++) {
		struct v4l2_querymenu pattern = {.id = TEST_PATTERN, .index = i};

		if (ioctl(camera, VIDIOC_QUERYMENU, &pattern) == 0 && !strcmp((char *)pattern.name, "100% Black"))
			return set_control(TEST_PATTERN, (int)i);
	}
	return ENOENT;
}

/* By its name alone: other people's cameras are not opened. */
static int find_camera(void)
{
	for (int i = 0; i < MAX_CAMERAS; i++) {
		char path[64], name[32] = "";
		FILE *file;

		snprintf(path, sizeof(path), "/sys/class/video4linux/video%d/name", i);
		file = fopen(path, "re");
		if (!file)
			continue;
		if (!fgets(name, sizeof(name), file))
			name[0] = 0;
		fclose(file);
		snprintf(path, sizeof(path), "/dev/video%d", i);
		if (!strncmp(name, "vivid-", 6) && strstr(name, "-vid-cap"))
			return open(path, O_RDWR); /* a program started by exec() can pin memory too */
	}
	return -1;
}

static int start_camera(void)
{
	struct v4l2_format format = {
		.type = V4L2_BUF_TYPE_VIDEO_CAPTURE,
		.fmt.pix = {
			.width = WIDTH, .height = HEIGHT, .pixelformat = V4L2_PIX_FMT_ARGB32,
			.field = V4L2_FIELD_NONE, .bytesperline = LINE,
		},
	};
	struct v4l2_streamparm rate = {
		.type = V4L2_BUF_TYPE_VIDEO_CAPTURE, .parm.capture.timeperframe = {1, A_SECOND}};
	struct v4l2_requestbuffers buffers = {
		.count = N_BUFFERS, .type = V4L2_BUF_TYPE_VIDEO_CAPTURE, .memory = V4L2_MEMORY_USERPTR};
	int input = 0; /* a webcam: any size */

	if (ioctl(camera, VIDIOC_S_INPUT, &input) < 0 || ioctl(camera, VIDIOC_S_FMT, &format) < 0 ||
	    ioctl(camera, VIDIOC_S_PARM, &rate) < 0 || ioctl(camera, VIDIOC_REQBUFS, &buffers) < 0)
		return errno;
	if (format.fmt.pix.width != WIDTH || format.fmt.pix.height != HEIGHT || format.fmt.pix.bytesperline != LINE ||
	    format.fmt.pix.sizeimage != LENGTH || format.fmt.pix.pixelformat != V4L2_PIX_FMT_ARGB32 ||
	    buffers.count != N_BUFFERS)
		return EPROTO;
	return choose_black();
}

/* A picture into the buffer `index`, which may have memory already: this then, as it is. An errno or 0. */
static int take_picture(int index, uint64_t picture)
{
	struct pollfd ready = {.fd = camera, .events = POLLIN};
	struct v4l2_buffer done = buffer(0, 0);
	int type = V4L2_BUF_TYPE_VIDEO_CAPTURE, error = queue(index, picture);

	if (!error)
		error = queue(COMPANY, (uintptr_t)company);
	if (!error && ioctl(camera, VIDIOC_STREAMON, &type) < 0)
		error = errno;
	/* The driver takes them in their order. */
	if (!error && (poll(&ready, 1, PICTURE_MS) != 1 || ioctl(camera, VIDIOC_DQBUF, &done) < 0))
		error = ETIMEDOUT;
	if (!error && (done.index != (uint32_t)index || done.flags & V4L2_BUF_FLAG_ERROR))
		error = EIO;
	stop();
	return error;
}

/* What the header says of pictures: a word behind the first line, the gap, nothing before the picture. */
static bool pictures_are_as_expected(void)
{
	const uint64_t value = 0xa5;
	uint64_t word;

	memset(company, 0, OFFSET + LENGTH);
	if (set_control(V4L2_CID_ALPHA_COMPONENT, (int)value) || take_picture(0, (uintptr_t)company + OFFSET))
		return false;
	memcpy(&word, company + PICTURE_CELL, sizeof(word));
	return word == value && !company[OFFSET - 1] && company[OFFSET] == (char)value;
}

static const char *vivid_probe(void)
{
	static char problem[96];
	int error;

	camera = find_camera();
	if (camera < 0)
		return "there is no capture device of the driver vivid";
	company = mmap(NULL, OFFSET + LENGTH, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (company == MAP_FAILED || madvise(company, OFFSET + LENGTH, MADV_DONTFORK) < 0)
		return "there is no memory";
	error = start_camera();
	if (!error && pictures_are_as_expected())
		return NULL;
	snprintf(problem, sizeof(problem), "%s: %s", "its camera does not take the pictures that are wanted",
		 error ? strerror(error) : "another content");
	close(camera);
	camera = -1;
	return problem;
}

static int vivid_open(int pin)
{
	test.pins[pin].fd = camera;
	return 0;
}

/* Prepared, not queued: no picture goes there unless asked for. Always FOLL_WRITE; up to v6.1 FOLL_FORCE as well. */
static struct reply vivid_hold(const struct request *rq)
{
	struct v4l2_buffer prepared = buffer(rq->pin, rq->addr + OFFSET);

	return outcome(ioctl(rq->fd, VIDIOC_PREPARE_BUF, &prepared));
}

static struct reply vivid_dma(int pin, const struct step *step)
{
	int error;

	if (step->op != DMA_WRITE || pin_offset(step) != PICTURE_CELL)
		return failure(EOPNOTSUPP);
	if (step->value > UINT8_MAX)
		return failure(ERANGE);
	stop(); /* it is prepared, and is to be nobody's */
	error = set_control(V4L2_CID_ALPHA_COMPONENT, (int)step->value);
	if (!error)
		error = take_picture(pin, test.pins[pin].addr + OFFSET);
	return error ? failure(error) : success(step->value);
}

static struct reply vivid_release(int pin)
{
	int error = stop();

	if (!error)
		error = queue(pin, (uintptr_t)company);
	stop();
	return error ? failure(error) : success(0);
}

const struct backend vivid = {
	.name = "vivid",
	.probe = vivid_probe,
	.open = vivid_open,
	.hold = vivid_hold,
	.dma = vivid_dma,
	.release = vivid_release,
};
