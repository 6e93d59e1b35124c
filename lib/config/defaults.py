"""The defaults: every key of a configuration, with the values of the published runs."""

from easydict import EasyDict

from lib.datasets.description import COCO, MPII, Description

OUTPUT_STRIDE = 4

# Keys of earlier versions, and what took their place; None: nothing reads them any more.
FORMER = {
    'DATASET.WHOLE_JOINTS': None,
    'TEST.DURING_TRAINING': 'VALIDATION.PERIOD',
    'TEST.DURING_TRAINING_IMAGES': 'VALIDATION.IMAGES',
}


def coco_defaults(dataset: Description = COCO) -> EasyDict:
    """The published COCO runs, but for the number of stages; of COCO itself or of another data set."""
    description = dataset.to_config()
    return EasyDict(
        DATASET=dict(
            **{key: value for key, value in description.items() if key != 'KEYPOINT'},
            KEYPOINT=dict(
                **description['KEYPOINT'],
                LOAD_MIN_NUM=1,  # people with fewer labelled joints are not trained on
            ),
            TRAIN=dict(
                BASIC_EXTENSION=0.05,
                RANDOM_EXTENSION=True,
                X_EXTENSION=0.6,
                Y_EXTENSION=0.8,
                SCALE_FACTOR_LOW=-0.25,
                SCALE_FACTOR_HIGH=0.25,
                SCALE_SHRINK_RATIO=0.8,
                ROTATION_FACTOR=45,  # degrees
                PROB_ROTATION=0.5,
                PROB_FLIP=0.5,
                NUM_KEYPOINTS_HALF_BODY=3,
                PROB_HALF_BODY=0.3,
                X_EXTENSION_HALF_BODY=0.6,
                Y_EXTENSION_HALF_BODY=0.8,
                GAUSSIAN_KERNELS=[15, 11, 9, 7, 5],
            ),
        ),
        INPUT_SHAPE=[256, 192],  # height, width
        OUTPUT_SHAPE=None,  # derived: INPUT_SHAPE / 4
        CODEC='standard',  # the published code's; or 'dark', 'udp', unbiased: lib/utils/codec.py
        INPUT=dict(MEANS=[0.406, 0.456, 0.485], STDS=[0.225, 0.224, 0.229]),  # BGR
        MODEL=dict(
            BACKBONE='Res-50',
            WIDTH=64,  # channels of the stem; a ResNet has 64
            STAGE_NUM=2,
            UPSAMPLE_CHANNEL_NUM=256,
            WEIGHT='lib/models/resnet-50_rename.pth',  # relative to the repository; '' starts from scratch
            WEIGHT_STAGES='all',  # or 'first', 'stem': what WEIGHT's ResNet goes into (lib/models/weights.py)
            DEVICE='cuda',
            SYNC_BN=False,
        ),
        SOLVER=dict(
            OPTIMIZER='Adam',  # or 'SGD'
            BASE_LR=5e-4,  # a GPU's: times the number of GPUs
            MOMENTUM=0.9,  # SGD's
            WEIGHT_DECAY=1e-5,
            IMS_PER_GPU=32,
            ACCUM_STEPS=1,  # batches to an iteration: a GPU with n counts for n GPUs
            REFERENCE_GPUS=8,  # MAX_ITER and CHECKPOINT_PERIOD are for this many: on n GPUs times REFERENCE_GPUS / n
            MAX_ITER=96000,
            CHECKPOINT_PERIOD=2400,
            WARMUP_FACTOR=0.1,
            WARMUP_ITERS=2400,
            PRECISION='fp32',  # or 'bf16', 'fp16'; heatmaps and loss stay in float32
            CHANNELS_LAST=True,  # memory layout: faster, the same but for rounding
            COMPILE=False,
            CUDA_GRAPH=False,  # on a GPU the whole step is captured once and replayed
            DROP_BIAS=False,  # train without biases that BatchNorm takes out again: faster, the same but for rounding
            EMA=0.0,  # decay of a moving average of the weights; 0: none
            SEED=0,
            KEEP_CHECKPOINTS=0,  # so many of the newest; 0: all
            TIMEOUT=600,  # seconds after which a process gives up waiting for the others
        ),
        LOSS=dict(OHKM=True, TOPK=8, COARSE_TO_FINE=True),
        DATALOADER=dict(
            NUM_WORKERS=4,  # a process; no more than there are cores
            # Decode JPEGs to train on at 1/2, 1/4 or 1/8 where a crop needs no more: faster, slightly other pixels.
            # Never in testing, whose results it would change.
            REDUCED_JPEG=False,
        ),
        TEST=dict(
            FLIP=True,
            X_EXTENSION=0.09,
            Y_EXTENSION=0.135,
            SHIFT_RATIOS=[0.25],  # of the standard codec; the others read between cells without
            GAUSSIAN_KERNEL=5,
            IMS_PER_GPU=32,
            PRECISION='fp32',  # or 'bf16', 'fp16', which change the results
            CUDA_GRAPH=False,  # as in training
            SCALES=[1.0],  # of the box: heatmaps of several are averaged
            NMS='none',  # or 'oks', 'soft': people found twice (lib/datasets/nms.py)
            NMS_THRESHOLD=0.9,  # OKS above which two are one
            RESCORE='mean',  # a person's score: the box's times that of all joints, or of the 'confident' ones
        ),
        VALIDATION=dict(  # while training
            PERIOD=0,  # at every so many checkpoints; 0: never
            IMAGES=0,  # on so many images of the validation set, evenly spaced; 0: all
        ),
        RUN_EFFICIENT=False,  # activation checkpointing
        EXPERIMENT=None,  # derived: the name of the experiment's folder
        NETWORK=None,  # derived: 'own' with a network.py in it; training says so, or 'mspn'
        OUTPUT_DIR='',  # '': home()/model_logs/<user>/<experiment>
        TEST_DIR=None,  # derived
        TENSORBOARD_DIR=None,  # derived
        USER=dict(),  # an experiment's own keys; values that json holds
    )


def mpii_defaults() -> EasyDict:
    """The published MPII runs, but for the number of stages."""
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
