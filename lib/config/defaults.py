"""The defaults: every key of a configuration, with its value in the published runs."""

from easydict import EasyDict

from lib.datasets.description import COCO, MPII, Description

OUTPUT_STRIDE = 4

# Keys of earlier versions, and the keys that replaced them; None: none.
FORMER = {
    'DATASET.WHOLE_JOINTS': None,
    'SOLVER.COMPILE': None,
    'TEST.DURING_TRAINING': 'VALIDATION.PERIOD',
    'TEST.DURING_TRAINING_IMAGES': 'VALIDATION.IMAGES',
}


def coco_defaults(dataset: Description = COCO) -> EasyDict:
    """The published COCO runs except for the number of stages, on COCO or another data set."""
    description = dataset.to_config()
    return EasyDict(
        DATASET=dict(
            **{key: value for key, value in description.items() if key != 'KEYPOINT'},
            KEYPOINT=dict(
                **description['KEYPOINT'],
                LOAD_MIN_NUM=1,  # train on people with at least so many labelled joints
            ),
            TRAIN=dict(
                BASIC_EXTENSION=0.05,  # every box grows by this ratio ...
                RANDOM_EXTENSION=True,  # ... and by a random part of the next two; False: by all of them
                X_EXTENSION=0.6,  # of the width
                Y_EXTENSION=0.8,  # of the height
                SCALE_FACTOR_LOW=-0.25,  # then by a random factor of 1 + LOW to 1 + HIGH, times SCALE_SHRINK_RATIO
                SCALE_FACTOR_HIGH=0.25,
                SCALE_SHRINK_RATIO=0.8,
                ROTATION_FACTOR=45,  # degrees, at most, to either side
                PROB_ROTATION=0.5,
                PROB_FLIP=0.5,
                # Of the crop's colours: a factor of 1 - x to 1 + x each; 0: none.
                BRIGHTNESS=0.0,
                CONTRAST=0.0,
                SATURATION=0.0,
                NUM_KEYPOINTS_HALF_BODY=3,  # only people with more labelled joints than this are cut in half
                PROB_HALF_BODY=0.3,
                X_EXTENSION_HALF_BODY=0.6,
                Y_EXTENSION_HALF_BODY=0.8,
                GAUSSIAN_KERNELS=[15, 11, 9, 7, 5],  # of the targets, in cells of the map, coarse to fine
            ),
        ),
        INPUT_SHAPE=[256, 192],  # height, width
        OUTPUT_SHAPE=None,  # derived: INPUT_SHAPE / 4
        CODEC='standard',  # the published code's, or the unbiased 'dark', 'udp' (lib/utils/codec.py)
        INPUT=dict(MEANS=[0.406, 0.456, 0.485], STDS=[0.225, 0.224, 0.229]),  # BGR
        MODEL=dict(
            BACKBONE='Res-50',
            WIDTH=64,  # channels of the stem, 64 in a ResNet
            STAGE_NUM=2,
            UPSAMPLE_CHANNEL_NUM=256,
            WEIGHT='lib/models/resnet-50_rename.pth',  # relative to the repository; '': train from scratch
            WEIGHT_STAGES='all',  # or 'first', 'stem': the parts that WEIGHT initialises (lib/models/weights.py)
            DEVICE='cuda',
            SYNC_BN=False,
        ),
        SOLVER=dict(
            OPTIMIZER='Adam',  # or 'AdamW', 'SGD'
            SCHEDULE='linear',  # decay of the learning rate, or 'cosine'
            BASE_LR=5e-4,  # per GPU: the learning rate is BASE_LR times the number of GPUs
            MOMENTUM=0.9,  # of SGD
            WEIGHT_DECAY=1e-5,
            IMS_PER_GPU=32,
            ACCUM_STEPS=1,  # batches per iteration: a GPU with n counts as n GPUs
            REFERENCE_GPUS=8,  # of MAX_ITER and CHECKPOINT_PERIOD; on n GPUs they are times REFERENCE_GPUS / n
            MAX_ITER=96000,
            CHECKPOINT_PERIOD=2400,
            WARMUP_FACTOR=0.1,
            WARMUP_ITERS=2400,
            PRECISION='fp32',  # or 'bf16', 'fp16'; heatmaps and loss stay in float32
            CHANNELS_LAST=True,  # memory layout: faster, the same except for rounding
            CUDA_GRAPH=False,  # capture the training step and replay it, on a GPU
            DROP_BIAS=False,  # train without biases that BatchNorm cancels: faster, the same except for rounding
            TRITON=False,  # kernels for BatchNorm, ReLU and resizing, on a GPU: faster, the same except for rounding
            DETERMINISTIC=False,  # algorithms whose results repeat to the bit, on a GPU; on a CPU all do
            EMA=0.0,  # decay of an exponential moving average of the weights; 0: none
            SEED=0,
            KEEP_CHECKPOINTS=0,  # how many, the newest; 0: all
            TIMEOUT=600,  # seconds that a process waits for the others
        ),
        LOSS=dict(OHKM=True, TOPK=8, COARSE_TO_FINE=True),
        DATALOADER=dict(
            NUM_WORKERS=4,  # per process, at most the number of cores
            # Decode training JPEGs at 1/2, 1/4 or 1/8 of their size where that is enough for the crop: faster, slightly
            # different pixels. Not used in testing.
            REDUCED_JPEG=False,
        ),
        TEST=dict(
            FLIP=True,
            X_EXTENSION=0.09,
            Y_EXTENSION=0.135,
            SHIFT_RATIOS=[0.25],  # of the standard codec's subpixel estimate
            GAUSSIAN_KERNEL=5,
            IMS_PER_GPU=32,
            PRECISION='fp32',  # or 'bf16', 'fp16', which change the results
            CUDA_GRAPH=False,  # as in training
            SCALES=[1.0],  # of the box; heatmaps of several are averaged
            NMS='none',  # or 'oks', 'soft' (lib/evaluation/nms.py)
            NMS_THRESHOLD=0.9,  # OKS above which people are duplicates
            RESCORE='mean',  # instance score: box score x mean score of all joints, or of the 'confident' ones
        ),
        VALIDATION=dict(  # while training
            PERIOD=0,  # in checkpoints; 0: never
            IMAGES=0,  # size of the subset of the validation images; 0: all
        ),
        RUN_EFFICIENT=False,  # activation checkpointing
        EXPERIMENT=None,  # derived: the name of the experiment's folder
        NETWORK=None,  # derived: 'own' if that folder has a network.py; set to 'mspn' or 'own' by training
        OUTPUT_DIR='',  # '': home()/model_logs/<user>/<experiment>
        TEST_DIR=None,  # derived
        TENSORBOARD_DIR=None,  # derived
        USER=dict(),  # an experiment's own keys; values must fit into JSON
    )


def mpii_defaults() -> EasyDict:
    """The published MPII runs except for the number of stages."""
    cfg = coco_defaults(MPII)
    cfg.DATASET.TRAIN.update(
        BASIC_EXTENSION=0.0,
        RANDOM_EXTENSION=False,
        X_EXTENSION=0.25,
        Y_EXTENSION=0.25,
        SCALE_SHRINK_RATIO=1.0,
        ROTATION_FACTOR=60,
        NUM_KEYPOINTS_HALF_BODY=8,
        PROB_HALF_BODY=0.5,
        X_EXTENSION_HALF_BODY=0.6,
        Y_EXTENSION_HALF_BODY=0.6,
    )
    cfg.INPUT_SHAPE = [256, 256]
    cfg.SOLVER.update(MAX_ITER=28800, CHECKPOINT_PERIOD=1600)
    cfg.TEST.update(X_EXTENSION=0.25, Y_EXTENSION=0.25, GAUSSIAN_KERNEL=9)
    cfg.RUN_EFFICIENT = True
    return cfg
